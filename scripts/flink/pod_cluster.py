"""A Flink cluster as Kubernetes has it, and a command of `storygan` beside it, each in a pod of its own.

    pod_cluster.py [--folder .flink/pods] storygan prepare --data DATA --out OUT

The job manager, two task managers and the command have networks of their own (`scripts/pods.py`). Each task manager
has a pool of Beam's Python workers beside it, as its pod's sidecar; the job manager has Beam's job server. Files are
this machine's, as of a volume that all pods share. The command is given the options by which it uses the cluster,
which ends with it.

Exit code: the command's; 3 where Java, Maven, the packages or pods cannot be had here; 1 where it did not start.
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
"""The module beside a task manager, and its arguments."""

JOB_SERVER = ("--flink-master=jobmanager:8081", "--job-host=jobmanager", "--artifacts-dir")

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


class PodCluster(Cluster):
    """A cluster of pods that lasts as long as the context; logs stay in its folder."""

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
        """Returns the options by which `storygan` uses it: the command's pod needs neither Java nor Flink."""
        beam = ("--job_endpoint=jobmanager:8099", "--parallelism=2", *ENVIRONMENT)
        return ["--beam-runner", "PortableRunner", *(f"--beam={option}" for option in beam)]

    def client(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a command in a pod of its own, as a step of a pipeline has it."""
        return self._pods.popen(CLIENT, command, **options)

    def lose(self, name: str) -> None:
        """Ends a pod with all that runs in it, as where its machine is lost; nothing is started in another."""
        self._pods.replace(name)

    def ask(self, path: str) -> Any:
        """Asks from a pod, where alone there is an answer."""
        url = f"http://{self.host}:{self.port}/{path}"
        try:
            return json.loads(self._pods.run(CLIENT, [sys.executable, "-c", ASK, url], stderr=subprocess.DEVNULL))
        except subprocess.CalledProcessError as error:
            raise OSError(f"{url} does not answer") from error

    def _host_of(self, name: str) -> str:
        return name

    def _check_port(self) -> None:
        """Does nothing: a pod's ports are its own."""

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
    """Runs a command beside a cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PARTS / "pods", help="for the cluster's logs and what it needs")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of storygan, with its arguments")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with PodCluster(given.folder.absolute()) as cluster:
            sys.exit(cluster.client([*given.command, *cluster.options()]).wait())
    except ClusterError as error:
        print(f"flink: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
