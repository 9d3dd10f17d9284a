"""Starts and stops a Flink cluster of local processes for Beam's FlinkRunner: one job manager, two task managers.

    cluster.py up [--port 8081] [--folder .flink/cluster]    starts it, waits until it is ready, prints how to use it
    cluster.py down [--folder .flink/cluster]                stops all of its processes

Exit code 3: Java, Maven or the packages are not available here. 1: the cluster did not start.

The first start downloads Flink (`apache-flink-libraries`, into an environment of its own) and builds Beam's job server
for it (`pom.xml`). This needs Java 11 or 17, Maven and the package indexes, and takes a minute and 0.4 GB. Both are
kept in `.flink` below the repository. That package lacks Flink's shell scripts, so this script starts Flink's processes
with the same arguments as they do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = ROOT / ".flink"
"""Folder of what is downloaded and built, shared by all clusters."""

FLINK = "apache-flink-libraries==1.19.3"
FLINK_VERSION = "1.19"
JAVA_VERSIONS = (11, 17)
TASK_MANAGERS = ("taskmanager-0", "taskmanager-1")
SECONDS = 180
"""Most seconds that the task managers may take to register."""

CONFIGURATION = """\
jobmanager.rpc.address: {host}
jobmanager.rpc.port: {rpc_port}
jobmanager.bind-host: {bound}
jobmanager.memory.process.size: 1200m
jobmanager.execution.failover-strategy: full
rest.address: {host}
rest.bind-address: {bound}
rest.port: {port}
taskmanager.bind-host: {bound}
taskmanager.memory.process.size: 2300m
taskmanager.memory.managed.size: 1g
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
taskmanager.network.sort-shuffle.min-buffers: 16
taskmanager.numberOfTaskSlots: 2
cluster.evenly-spread-out-slots: true
parallelism.default: 2
io.tmp.dirs: {folder}/tmp
pekko.ask.timeout: 120 s
heartbeat.interval: 3000
heartbeat.timeout: 30000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 5
restart-strategy.fixed-delay.delay: 2 s
"""
"""Template of Flink's configuration file.

Each task manager has two slots, so that one of them has room for a job of parallelism 2 if the other is lost. The
limits of the network buffers are set because preparation has about a hundred shuffles, each of which would otherwise
reserve 512 buffers. The tasks of a slot (over 300 in the Transform step of `storygan run`) share its managed memory,
and each share must hold the sums of a PCA, 2 MB.
"""

EXPORTS = ("java.base/sun.net.util", "java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5")
OPENS = (
    "java.lang",
    "java.net",
    "java.io",
    "java.nio",
    "sun.nio.ch",
    "java.lang.reflect",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
)
"""Packages of `java.base` that Flink's default configuration opens on these versions of Java."""

JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
RESULT = "BASH_JAVA_UTILS_EXEC_RESULT:"


class ClusterError(Exception):
    """The cluster could not be started; the message also says how to correct it."""

    code = 1


class MissingError(ClusterError):
    """Java, Maven or a package that a cluster needs is not available here."""

    code = 3


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of the cluster.

    Attributes:
        name: name of the process, such as `jobmanager`.
        pid: its process id.
        started: the time of its start in the kernel's ticks, which distinguishes it from a later process with the same
            id.
    """

    name: str
    pid: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether the process still runs."""
        return bool(self.started) and _start_time(self.pid) == self.started


class Cluster:
    """A Flink cluster of local processes.

    Args:
        folder: folder for `processes.json`, `conf/`, `log/` and `tmp/`.
        port: port of Flink's REST interface.
    """

    host = bound = "localhost"
    """Host name of the job manager, and the address on which all processes listen."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._file = folder / "processes.json"

    def up(self) -> None:
        """Starts the cluster and waits until both task managers have registered.

        Raises:
            ClusterError: if it runs already, the port is in use, or a process ends or does not start in time.
            MissingError: if Java, Maven or a package is not available here.
        """
        if any(process.runs for process in self.processes()):
            raise ClusterError(f"a cluster in {self.folder} runs already; stop it first (make flink-down).")
        java, home = find_java(), flink_home()
        job_server()
        self._check_port()
        self._configure()
        try:
            conf = ["--configDir", str(self.folder / "conf")]
            common = [*_opened(), *_log_settings(), *_class_path(home)]
            self._start("jobmanager", [java, "-Xmx700m", *common, JOB_MANAGER, *conf])
            jvm, settings = _task_manager_settings(java, home, self.folder / "conf")
            for name in TASK_MANAGERS:
                named = ["-D", f"taskmanager.resource-id={name}", "-D", f"taskmanager.host={self._host_of(name)}"]
                self._start(name, [java, *jvm, *common, TASK_MANAGER, *conf, *settings, *named])
            self._wait()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stops the cluster and keeps its logs. Kills processes that do not end within ten seconds."""
        running = [process for process in self.processes() if process.runs]
        for process in running:
            os.kill(process.pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while any(process.runs for process in running) and time.monotonic() < until:
            time.sleep(0.1)
        for process in running:
            if process.runs:
                os.kill(process.pid, signal.SIGKILL)
        self._file.unlink(missing_ok=True)
        for name in ("conf", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def processes(self) -> list[Process]:
        """Returns the processes that were started, including those that have ended."""
        return [Process(**entry) for entry in json.loads(self._file.read_text())] if self._file.is_file() else []

    def options(self) -> list[str]:
        """Returns the options with which `storygan` uses this cluster."""
        beam = (
            f"--flink_master={self.host}:{self.port}",
            f"--flink_version={FLINK_VERSION}",
            f"--flink_job_server_jar={job_server()}",
            "--environment_type=LOOPBACK",
        )
        return ["--beam-runner", "FlinkRunner", "--beam-workers", "2", *(f"--beam={option}" for option in beam)]

    def _configure(self) -> None:
        for name in ("conf", "log", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.format(
            port=self.port, rpc_port=_free_port(), folder=self.folder, host=self.host, bound=self.bound
        )
        (self.folder / "conf" / "config.yaml").write_text(text)

    def _host_of(self, name: str) -> str:
        """Returns the host name of a task manager by its name."""
        del name
        return self.host

    def _check_port(self) -> None:
        if not _is_free(self.port):
            raise ClusterError(f"port {self.port} is in use; choose another (make flink-up FLINK_PORT=8082).")

    def _open(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a process. Subclasses can start it on another host, depending on its name."""
        del name
        return subprocess.Popen(command, **options)

    def _start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / "log" / f"{name}.log").open("wb") as log:
            process = self._open(
                name,
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes = [*self.processes(), Process(name, process.pid, _start_time(process.pid))]
        self._file.write_text(json.dumps([dataclasses.asdict(process) for process in processes], indent=1))

    def _wait(self) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            ended = [process.name for process in self.processes() if not process.runs]
            if ended:
                raise ClusterError(f"{', '.join(ended)} ended; the reason is in {self.folder / 'log'}.")
            if self._task_managers() == len(TASK_MANAGERS):
                return
            time.sleep(0.3)
        raise ClusterError(
            f"fewer than {len(TASK_MANAGERS)} task managers registered in {SECONDS} s; see {self.folder / 'log'}."
        )

    def query(self, path: str) -> Any:
        """Returns the decoded JSON that Flink's REST interface returns for a path.

        Raises:
            OSError: if it does not respond.
        """
        with urllib.request.urlopen(f"http://{self.host}:{self.port}/{path}", timeout=5) as response:
            return json.load(response)

    def _task_managers(self) -> int:
        try:
            return int(self.query("overview")["taskmanagers"])
        except (OSError, ValueError, KeyError):
            return 0


def find_java() -> str:
    """Returns the path of the `java` in JAVA_HOME or on PATH; raises MissingError if Flink does not run on it."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")
    wanted = " or ".join(map(str, JAVA_VERSIONS))
    advice = f"Flink {FLINK_VERSION} needs Java {wanted}: apt-get install openjdk-17-jdk-headless, or set JAVA_HOME."
    if java is None:
        raise MissingError(f"found no java. {advice}")
    output = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', output)
    if version is None or int(version.group(1)) not in JAVA_VERSIONS:
        raise MissingError(f"{java}: found {output.splitlines()[0] if output else 'no version'}. {advice}")
    return java


def flink_home() -> Path:
    """Returns the folder of Flink's jars, and downloads Flink first if it is missing."""
    python = PARTS / "python"
    if not (found := list(python.glob("lib/python*/site-packages/pyflink/lib"))):
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is None:
            raise MissingError("found no uv, which downloads Flink: run `make setup`.")
        print(f"downloading {FLINK} ...", flush=True)
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(python)], "no environment for Flink")
        _run([uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python / "bin/python"), FLINK], "no Flink")
        found = list(python.glob("lib/python*/site-packages/pyflink/lib"))
    return found[0].parent


def job_server() -> Path:
    """Returns the path of the jar of Beam's job server for Flink, and builds it first if it is missing."""
    jar = PARTS / "job-server.jar"
    if not jar.is_file():
        maven = shutil.which("mvn")
        if maven is None:
            raise MissingError("found no Maven, which builds Beam's job server: apt-get install maven.")
        print("building Beam's job server for Flink ...", flush=True)
        build = PARTS / "jar"
        command = [maven, "--batch-mode", "--quiet", "--file", str(HERE / "pom.xml"), f"-Djob.server.folder={build}"]
        _run([*command, "package"], "no job server")
        (build / "job-server.jar").replace(jar)
        shutil.rmtree(build)
    return jar


def _run(command: Sequence[str], failure: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[:5]
        raise MissingError(f"{failure}: `{Path(command[0]).name}` failed. " + " ".join(lines))


def _opened() -> list[str]:
    """Returns the arguments of `java` that give Flink access to the packages in `EXPORTS` and `OPENS`."""
    exports = [f"--add-exports={module}=ALL-UNNAMED" for module in EXPORTS]
    return exports + [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS]


def _log_settings() -> list[str]:
    return [f"-Dlog4j.configurationFile=file:{HERE / 'log4j.properties'}"]


def _class_path(home: Path) -> list[str]:
    return ["-cp", str(home / "lib" / "*")]


def _task_manager_settings(java: str, home: Path, conf: Path) -> tuple[list[str], list[str]]:
    """Returns the arguments of the JVM and the settings with which Flink's own script starts a task manager."""
    path = f"{home / 'bin' / 'bash-java-utils.jar'}:{home / 'lib' / '*'}"
    tool = "org.apache.flink.runtime.util.bash.BashJavaUtils"
    command = [java, "-cp", path, tool, "GET_TM_RESOURCE_PARAMS", "--configDir", str(conf)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    results = [line.removeprefix(RESULT) for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if len(results) != 2:
        raise ClusterError(f"Flink printed no arguments for a task manager: {(done.stdout + done.stderr)[-500:]}")
    return results[0].split(), results[1].split()


def _start_time(pid: int) -> str:
    """Returns the time at which a process started, in the kernel's ticks; empty if it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Starts or stops a cluster, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--port", type=int, default=8081, help="port of Flink's REST interface and web page")
    parser.add_argument("--folder", type=Path, default=PARTS / "cluster", help="folder for logs and configuration")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder.absolute(), arguments.port)
    try:
        if arguments.action == "down":
            cluster.down()
            return
        cluster.up()
    except ClusterError as error:
        print(f"flink: {error}", file=sys.stderr)
        sys.exit(error.code)
    print(f"Flink runs at http://localhost:{cluster.port}. To prepare stories on it:")
    print(f"  storygan prepare --data DATA --out OUT {' '.join(cluster.options())}")


if __name__ == "__main__":
    main()
