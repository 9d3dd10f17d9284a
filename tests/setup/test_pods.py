"""Pods reach each other by name, have a network of their own, and leave no process running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pods import Pods, PodsError

NAMES = ("job-0.service", "job-1.service")

LISTEN = """
import socket, sys
with socket.create_server(("", 2222)) as server:
    print("listening", flush=True)
    connection, (address, _) = server.accept()
    with connection:
        connection.sendall(f"{socket.gethostname()} received {address}".encode())
"""
CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], 2222), timeout=120) as connection:
    print(connection.makefile().read())
"""


@pytest.fixture
def pods():
    try:
        with Pods(NAMES) as running:
            yield running
    except PodsError as error:
        pytest.skip(str(error))


def connect(pods: Pods, listener: str, caller: str) -> str:
    """Connects from one pod to another by its name, and returns the answer: host name and the caller's address."""
    server = pods.popen(listener, [sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "listening\n"
    answer = pods.run(caller, [sys.executable, "-c", CONNECT, listener])
    server.communicate(timeout=120)
    return answer.strip()


def test_pods_find_each_other_by_name(pods):
    for one, other in (NAMES, NAMES[::-1]):
        assert connect(pods, one, other) == f"{one.partition('.')[0]} received {pods.address(other)}"


def test_a_pod_has_its_own_address_and_the_same_ports_are_free_in_each(pods):
    assert len({pods.address(name) for name in NAMES}) == 2
    servers = [pods.popen(name, [sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True) for name in NAMES]
    for server in servers:
        assert server.stdout.readline() == "listening\n"
        server.kill()
        server.communicate()


def test_nothing_else_is_reached_from_a_pod_nor_reaches_it(pods):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        with pytest.raises(subprocess.CalledProcessError):
            pods.run(NAMES[0], [sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert "job-0" not in Path("/etc/hosts").read_text()
    assert not socket.gethostname().startswith("job-")


def test_a_command_has_the_given_folder_and_environment(pods, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['COLOUR'])"
    printed = pods.run(NAMES[0], [sys.executable, "-c", code], cwd=tmp_path, env={"COLOUR": "red"})
    assert printed.split() == [str(tmp_path), "red"]
    assert pods.run(NAMES[0], ["pwd"]).strip() == str(Path.cwd())
    stopped = pods.popen(NAMES[0], ["sleep", "600"])
    stopped.terminate()
    assert stopped.wait(timeout=120) == -signal.SIGTERM


def test_another_pod_in_its_place_has_the_name_and_another_address(pods):
    before = pods.address(NAMES[0])
    running = pods.popen(NAMES[0], ["sh", "-c", "echo runs; exec sleep 600"], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "runs\n"
    pods.replace(NAMES[0])
    running.communicate(timeout=120)
    assert running.returncode == -signal.SIGKILL
    assert pods.address(NAMES[0]) != before
    assert connect(pods, *NAMES) == f"job-0 received {pods.address(NAMES[1])}"


def test_what_runs_in_pods_ends_with_them():
    try:
        with Pods(NAMES) as pods:
            number = int(pods.run(NAMES[1], ["sh", "-c", "sleep 600 > /dev/null & echo $!"]))
            os.kill(number, 0)
    except PodsError as error:
        pytest.skip(str(error))
    deadline = time.monotonic() + 120
    while runs(number):
        assert time.monotonic() < deadline, "the process in the pod still runs"
        time.sleep(0.02)


def runs(number: int) -> bool:
    """Returns whether a process runs; one that has ended may remain as a zombie until its parent collects it."""
    try:
        return "zombie" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PodsError, match=r"pods need unshare \(util-linux\)"), Pods(NAMES):
        pass
