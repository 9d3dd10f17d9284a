"""Runs a `storygan` command with a Flink cluster that has a pod for each process, as on Kubernetes.

    pod_cluster.py [--folder .flink/pods] storygan prepare --data DATA --out OUT

The job manager, two task managers and the command have networks of their own (`scripts/pods.py`). The pod of a task
manager also runs a pool of Beam's Python workers, and the pod of the job manager runs Beam's job server. All pods see
the files of this machine, as if they shared a volume. The options that select the cluster are appended to the command.
The cluster ends when the command does.

The exit code is that of the command; 3 if Java, Maven, the packages or pods are not available here; 1 if the cluster
did not start.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cluster import PARTS, TASK_MANAGERS, Cluster, ClusterError, MissingError, find_java, job_server  # noqa: E402
from pods import Pods, PodsError  # noqa: E402

JOB_MANAGER = "jobmanager"
CLIENT = "client"
ENVIRONMENT = ("--environment_type=EXTERNAL", "--environment_config=localhost:50000")
POOL = (
    "components.worker_pool",
    "--port",
    "50000",
    "--preload",
    "pipeline.beam_preparation",
    "serving.batch_inference",
)
"""The module that runs in the pod of a task manager as a worker pool, and its arguments."""

JOB_SERVER = ("--flink-master=jobmanager:8081", "--job-host=jobmanager", "--artifacts-dir")

QUERY = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


class PodCluster(Cluster):
    """A Flink cluster in pods, as a context manager that stops it at the exit and keeps its logs.

    Args:
        folder: folder for logs and configuration.
    """

    host = JOB_MANAGER
    bound = "0.0.0.0"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 8081)
        self._pods = Pods([JOB_MANAGER, *TASK_MANAGERS, CLIENT])
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> PodCluster:
        try:
            self._pods.__enter__()
        except PodsError as error:
            raise MissingError(str(error)) from error
        try:
            self.up()
        except BaseException:
            self._pods.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        self._pods.__exit__(kind, error, trace)
        for process in self._running:
            process.wait()

    def options(self) -> list[str]:
        """Returns the options with which `storygan` uses this cluster, in a pod without Java and Flink."""
        beam = ("--job_endpoint=jobmanager:8099", "--parallelism=2", *ENVIRONMENT)
        return ["--beam-runner", "PortableRunner", *(f"--beam={option}" for option in beam)]

    def client(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a command in a pod of its own, as Kubernetes does for a step of a pipeline."""
        return self._pods.popen(CLIENT, command, **options)

    def lose(self, name: str) -> None:
        """Kills all processes of a pod, as the loss of its machine does, and replaces it by an empty one."""
        self._pods.replace(name)

    def query(self, path: str) -> Any:
        """Returns the decoded JSON for a path; sends the request from a pod, as only pods reach the job manager."""
        url = f"http://{self.host}:{self.port}/{path}"
        try:
            return json.loads(self._pods.run(CLIENT, [sys.executable, "-c", QUERY, url], stderr=subprocess.DEVNULL))
        except subprocess.CalledProcessError as error:
            raise OSError(f"{url}: no response") from error

    def _host_of(self, name: str) -> str:
        return name

    def _check_port(self) -> None:
        """Does nothing, because each pod has its own ports."""

    def _open(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        self._running.append(self._pods.popen(name.partition(".")[0], command, **options))
        return self._running[-1]

    def _start(self, name: str, command: Sequence[str]) -> None:
        super()._start(name, command)
        if name in TASK_MANAGERS:
            super()._start(f"{name}.pool", [sys.executable, "-m", *POOL])
        else:
            staged = self.folder / "tmp" / "staged"
            super()._start(f"{name}.job-server", [find_java(), "-jar", str(job_server()), *JOB_SERVER, str(staged)])


def main() -> None:
    """Starts a cluster, runs the command and exits with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PARTS / "pods", help="folder for logs and configuration")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a storygan command with its arguments")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with PodCluster(arguments.folder.absolute()) as cluster:
            sys.exit(cluster.client([*arguments.command, *cluster.options()]).wait())
    except ClusterError as error:
        print(f"flink: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
