"""Runs commands in Linux namespaces on this machine, each with its own host name and address, like pods.

    with Pods(["train-0.train", "train-1.train"]) as pods:
        running = pods.popen("train-0.train", ["storygan", "train", ...], env=...)

A pod is a network, a mount and a UTS namespace. Its only network interface is on a bridge that connects the pods with
each other and with nothing else. Pods reach each other by name, as with a headless service. They share the files and
process ids of this machine. Needs util-linux (`unshare`, `nsenter`), iproute2 (`ip`), and root or user namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2"}
NETWORK = "10.88.0"

# A namespace exists as long as a process is in it: here `cat`, which ends when the process that started it ends.
_NODE = """
ip link set lo up && ip link add pods type bridge && ip link set pods up && echo ready && exec cat
"""
_POD = """
mount --bind "$HOSTS" /etc/hosts && hostname "$NAME" && ip link set lo up && echo ready && exec cat
"""
_JOIN = """
ip link add "$LINK" type veth peer name eth0 netns "$POD" && ip link set "$LINK" master pods up
"""
_ADDRESS = """
ip address add "$ADDRESS/24" dev eth0 && ip link set eth0 up
"""


class PodsError(Exception):
    """Pods cannot be created on this machine; the message is the reason."""


class Pods:
    """A group of pods, as a context manager that kills all processes in them at the exit.

    Args:
        names: the names by which the pods reach each other, such as `train-0.train`. The host name of a pod is the part
            before the first dot.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._addresses: dict[str, str] = {}
        self._holders: dict[str, subprocess.Popen[str]] = {}
        self._count = 0

    def __enter__(self) -> Pods:
        missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
        if missing:
            raise PodsError(f"pods need {', '.join(missing)}")
        self._folder = tempfile.TemporaryDirectory(prefix="pods-")
        self._hosts = Path(self._folder.name) / "hosts"
        try:
            rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            self._node = _hold(["unshare", *rights, "--net", "sh", "-c", _NODE])
            for name in self._names:
                self._make(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def address(self, name: str) -> str:
        """Returns the IPv4 address of a pod."""
        return self._addresses[name]

    def popen(
        self, name: str, command: Sequence[str], *, cwd: str | Path | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Starts a command in a pod.

        Args:
            name: name of the pod.
            command: program and arguments.
            cwd: working directory; by default that of this process.
            options: other options of `subprocess.Popen`, such as `env`.

        Returns:
            The running process, which is the command itself.
        """
        return subprocess.Popen(self.entering(name, command, cwd), **options)

    def entering(self, name: str, command: Sequence[str], cwd: str | Path | None = None) -> list[str]:
        """Returns a command that runs `command` in a pod, for callers that do not use `popen`."""
        # A process that enters a mount namespace starts in its root directory.
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(Path(cwd or ".").absolute()), *command]
        return [*_enter(self._holders[name], "--net", "--mount", "--uts"), *there]

    def run(self, name: str, command: Sequence[str], **options: Any) -> str:
        """Runs a command in a pod and returns its output; raises CalledProcessError if its exit code is not 0."""
        running = self.popen(name, command, stdout=subprocess.PIPE, text=True, **options)
        printed = running.communicate()[0]
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, list(command), printed)
        return str(printed)

    def replace(self, name: str) -> None:
        """Kills all processes of a pod and creates a new pod with the same name and another address."""
        self._remove(name)
        self._make(name)

    def _make(self, name: str) -> None:
        self._count += 1
        number = self._count
        environment = {"HOSTS": str(self._hosts), "NAME": name.partition(".")[0], "LINK": f"pod{number}"}
        self._addresses[name] = environment["ADDRESS"] = f"{NETWORK}.{number + 1}"
        # Written in place, because the file is mounted in the other pods.
        self._hosts.write_text("127.0.0.1 localhost\n" + "".join(map(self._line, self._addresses)))
        into_node = _enter(self._node, "--net")
        spaces = ["unshare", "--net", "--mount", "--uts", "sh", "-c", _POD]
        self._holders[name] = _hold([*into_node, *spaces], environment)
        environment["POD"] = str(self._holders[name].pid)
        _do([*into_node, "sh", "-c", _JOIN], environment)
        _do([*_enter(self._holders[name], "--net"), "sh", "-c", _ADDRESS], environment)

    def _line(self, name: str) -> str:
        return f"{self._addresses[name]} {name} {name.partition('.')[0]}\n"

    def _remove(self, name: str) -> None:
        holder = self._holders.pop(name)
        for process in _companions(holder.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _end(holder)

    def _end(self) -> None:
        for name in list(self._holders):
            self._remove(name)
        if hasattr(self, "_node"):
            _end(self._node)
        self._folder.cleanup()


def _enter(holder: subprocess.Popen[str], *spaces: str) -> list[str]:
    """Returns the command prefix that runs a command in the named namespaces of a process."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(holder.pid), *user, *spaces]


def _hold(command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a process that holds namespaces, and waits until it prints that they are ready."""
    pipe = subprocess.PIPE
    holder = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **(environment or {})}
    )
    assert holder.stdout and holder.stderr
    if holder.stdout.readline() != "ready\n":
        error = holder.stderr.read()
        _end(holder)
        raise PodsError(f"pods cannot be created here: {' '.join(error.split()) or command}")
    return holder


def _do(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PodsError(f"pods cannot be created here: {' '.join(done.stderr.split())}")


def _end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def _companions(holder: int) -> Iterator[int]:
    """Yields the ids of the other processes in the network namespace of a process."""
    space = _space(Path(f"/proc/{holder}"))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != holder and _space(entry) == space:
            yield int(entry.name)


def _space(process: Path) -> Path | None:
    try:
        return (process / "ns/net").readlink()
    except OSError:  # the process has ended or belongs to another user
        return None
