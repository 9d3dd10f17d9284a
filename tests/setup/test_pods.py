"""Pods find each other by their names, are alone on their network, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pods import Pods, PodsError

NAMES = ("job-0.service", "job-1.service")

LISTEN = """
import socket, sys
with socket.create_server(("", 2222)) as server:
    print("listens", flush=True)
    connection, (address, _) = server.accept()
    with connection:
        connection.sendall(f"{socket.gethostname()} hears {address}".encode())
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 2222), timeout=20) as connection:
    print(connection.makefile().read())
"""


@pytest.fixture
def pods():
    try:
        with Pods(NAMES) as made:
            yield made
    except PodsError as error:
        pytest.skip(str(error))


def ask(pods: Pods, answering: str, asking: str) -> str:
    """Lets a pod answer another that knows its name."""
    server = pods.popen(answering, [sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "listens\n"
    told = pods.run(asking, [sys.executable, "-c", ASK, answering])
    server.communicate(timeout=20)
    return told.strip()


def test_pods_find_each_other_by_name(pods):
    for one, other in (NAMES, NAMES[::-1]):
        assert ask(pods, one, other) == f"{one.partition('.')[0]} hears {pods.address(other)}"


def test_a_pod_has_its_own_address_and_the_same_ports_are_free_in_each(pods):
    assert len({pods.address(name) for name in NAMES}) == 2
    servers = [pods.popen(name, [sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True) for name in NAMES]
    for server in servers:
        assert server.stdout.readline() == "listens\n"
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


def test_a_command_is_started_where_it_should_be_with_its_environment(pods, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['COLOUR'])"
    told = pods.run(NAMES[0], [sys.executable, "-c", code], cwd=tmp_path, env={"COLOUR": "red"})
    assert told.split() == [str(tmp_path), "red"]
    assert pods.run(NAMES[0], ["pwd"]).strip() == str(Path.cwd())
    stopped = pods.popen(NAMES[0], ["sleep", "60"])
    stopped.terminate()
    assert stopped.wait(timeout=20) == -signal.SIGTERM


def test_another_pod_in_its_place_has_the_name_and_another_address(pods):
    before = pods.address(NAMES[0])
    running = pods.popen(NAMES[0], ["sh", "-c", "echo runs; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "runs\n"
    pods.replace(NAMES[0])
    running.communicate(timeout=20)
    assert running.returncode == -signal.SIGKILL
    assert pods.address(NAMES[0]) != before
    assert ask(pods, *NAMES) == f"job-0 hears {pods.address(NAMES[1])}"


def test_what_runs_in_pods_ends_with_them():
    try:
        with Pods(NAMES) as pods:
            number = int(pods.run(NAMES[1], ["sh", "-c", "sleep 60 > /dev/null & echo $!"]))
            os.kill(number, 0)
    except PodsError as error:
        pytest.skip(str(error))
    status = Path(f"/proc/{number}/status")  # There until the machine's first process has asked for its end.
    assert not status.exists() or "zombie" in status.read_text()


def test_where_there_can_be_no_pods_it_is_said_why(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PodsError, match=r"pods need unshare \(util-linux\)"), Pods(NAMES):
        pass
