"""Python processes that start in milliseconds, because they are forked from one that has imported the large packages.

A `storygan` command spends more time on importing TensorFlow, TFX and Beam than on its work in a test. `ForkedPython`
is for tests that need a process of its own for a command, with its own arguments, environment, working directory,
signals and exit code, but do not need third-party packages to be imported there. Packages of this project are never
imported before the fork: a process imports them from the sources that its environment names.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

PRELOADED = (
    "tensorflow",
    "tensorflow.keras",
    "tensorflow_addons",
    "tensorflow_hub",
    "tensorflow_transform.beam",
    "tensorflow_data_validation",
    "tfx.components",
    "tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner",
    "tfx.orchestration.local.local_dag_runner",
    "apache_beam.runners.portability.fn_api_runner",
    "jinja2",
    "rich.progress",
    "typer",
)
"""Modules that a new process has already imported. They do not include the project's own packages."""

_MOST = 1 << 20
"""Maximum size of a request, in bytes."""


class ForkedProcess:
    """A running process; the part of `subprocess.Popen` that tests use.

    The process is the leader of a process group of its own, so that `os.killpg` ends it with its children.

    Attributes:
        args: the arguments after `python`, such as `["-m", "storygan_cli", "run"]`.
        pid: process id.
        returncode: exit code, negative for the signal that ended it; None while it runs.
        stdout: its output, if it was started by `ForkedPython.popen`.
    """

    def __init__(self, args: Sequence[str], connection: socket.socket) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self.stdout: TextIO | None = None
        self._connection = connection.makefile("r")
        connection.close()
        self.pid = int(self._connection.readline())

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for the end of the process, as `subprocess.Popen` does."""
        if self.stdout:
            self.stdout.close()
        self.wait()

    def kill(self) -> None:
        """Kills the process, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Returns the exit code, or None while the process runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait(60)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code once the process has ended.

        Raises:
            subprocess.TimeoutExpired: if it takes longer than `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._connection.readline())
            self._connection.close()
        return self.returncode


class ForkedPython:
    """Starts processes from one that has imported `PRELOADED`. Use it as a context manager.

    Example:
        >>> with ForkedPython() as python:
        ...     python.run(["-m", "storygan_cli", "--help"], cwd=".", env=os.environ).stdout
    """

    def __enter__(self) -> ForkedPython:
        self._folder = tempfile.TemporaryDirectory(prefix="forked_python")
        self._address = f"{self._folder.name}/socket"
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-W", "ignore", __file__, self._address]
        self._server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._server.stdout
        if self._server.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{__file__} ended with exit code {self._server.wait()} before it was ready.")
        return self

    def __exit__(self, *error: object) -> None:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()
        self._folder.cleanup()

    def start(
        self, args: Sequence[str], *, cwd: str | Path, env: Mapping[str, str], stdout: int, stderr: int
    ) -> ForkedProcess:
        """Starts `python ARGS`; `args` begins with `-m` and a module.

        Args:
            args: as after `python`.
            cwd: working directory.
            env: environment variables.
            stdout: file descriptor for standard output.
            stderr: file descriptor for standard error.
        """
        request = json.dumps({"args": list(args), "cwd": str(cwd), "env": dict(env)}).encode()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self._address)
        socket.send_fds(connection, [len(request).to_bytes(4, "big") + request], [stdout, stderr])
        return ForkedProcess(args, connection)

    def popen(self, args: Sequence[str], *, cwd: str | Path, env: Mapping[str, str]) -> ForkedProcess:
        """Starts `python ARGS`, whose output and errors can be read from `stdout` of the returned process."""
        reader, writer = os.pipe()
        try:
            process = self.start(args, cwd=cwd, env=env, stdout=writer, stderr=writer)
        finally:
            os.close(writer)
        process.stdout = os.fdopen(reader)
        return process

    def run(
        self, args: Sequence[str], *, cwd: str | Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python ARGS` to its end, as `subprocess.run` with captured text does."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self.start(args, cwd=cwd, env=env, stdout=out.fileno(), stderr=err.fileno())
            try:
                process.wait(timeout)
            except BaseException:
                process.send_signal(signal.SIGKILL)
                process.wait(60)
                raise
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        assert process.returncode is not None
        return subprocess.CompletedProcess(list(args), process.returncode, *texts)


def _serve(address: str) -> dict | None:
    """Forks a process for each request until standard input closes.

    Returns:
        In a forked process its request, in the server None.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    wakeups, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, listener, wakeups], [], [])
        if wakeups in ready:
            os.read(wakeups, 4096)
            _report_ended(running)
        if listener in ready:
            connection, _ = listener.accept()
            request, files = _receive(connection)
            pid = os.fork()
            with contextlib.suppress(ProcessLookupError):  # the process has ended
                os.setpgid(pid, pid)  # in both processes, so that neither has to wait for the other
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for open_socket in (listener, connection, *running.values()):
                    open_socket.close()
                os.close(wakeups)
                os.close(wakeup)
                _adopt(request, files)
                return request
            for file in files:
                os.close(file)
            running[pid] = connection
            connection.sendall(b"%d\n" % pid)
        if 0 in ready:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return None


def _receive(connection: socket.socket) -> tuple[dict, list[int]]:
    content, files, _, _ = socket.recv_fds(connection, _MOST, 2)
    while len(content) < 4 + int.from_bytes(content[:4], "big"):
        content += connection.recv(_MOST)
    return json.loads(content[4:]), list(array.array("i", files))


def _report_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as connection:
            try:
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            except BrokenPipeError:
                continue


def _adopt(request: dict, files: list[int]) -> None:
    """Makes this process what the request describes."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # else TMPDIR of the request has no effect once a package has used the module
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [request["cwd"], *paths]


def main() -> None:
    """Imports `PRELOADED`, then starts a process for each request; in such a process runs the module."""
    for name in PRELOADED:
        importlib.import_module(name)
    del sys.path[0]
    gc.collect()
    gc.freeze()  # else the first collection of each process copies all that is shared
    request = _serve(sys.argv[1])
    if request is None:
        return
    flag, module, *arguments = request["args"]
    assert flag == "-m", request["args"]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main()
