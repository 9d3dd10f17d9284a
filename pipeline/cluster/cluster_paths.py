"""The folders of a run on a cluster: all are below the root, unless a setting gives another path."""

from __future__ import annotations

import dataclasses

from pipeline.cluster.cluster_settings import CompileRequest
from storygan_tf.common.errors import ConfigError

_LAUNCHER_SCHEME = "minio://"
"""Scheme of URIs that only Kubeflow's launcher can read, not the processes in a container."""


@dataclasses.dataclass(frozen=True)
class ClusterPaths:
    """The folders of a run: URIs, or paths in the containers.

    Attributes:
        artifacts: root folder of the artifacts.
        serving: model base directory; Pusher adds a version directory to it.
        work: folder of the checkpoints that a training resumes from; empty if no folder outlives a container.
    """

    artifacts: str
    serving: str
    work: str

    @classmethod
    def from_request(cls, request: CompileRequest) -> ClusterPaths:
        """Returns the folders for a request.

        Raises:
            ConfigError: if a path is relative, or if steps cannot write to it.
        """
        root, cluster = request.root.rstrip("/"), request.cluster
        paths = cls(
            artifacts=f"{root}/pipeline_root",
            serving=cluster.serving.rstrip("/") or f"{root}/serving",
            work=cluster.work.rstrip("/") or ("" if root.startswith(_LAUNCHER_SCHEME) else f"{root}/work"),
        )
        _check(root, "--root")
        _check(request.data, "--data")
        for option, path in (("serving", paths.serving), ("work", paths.work)):
            _check(path, f"cluster.{option}")
            _check_reachable(path, f"cluster.{option}")
        _check_reachable(request.data, "--data")
        return paths


def _check(path: str, option: str) -> None:
    if path and "://" not in path and not path.startswith("/"):
        raise ConfigError(
            f"{option} {path}: expected a URI (gs://bucket/folder, s3://bucket/folder) or the absolute path of a "
            "folder that is mounted in every container."
        )


def _check_reachable(path: str, option: str) -> None:
    if path.startswith(_LAUNCHER_SCHEME):
        raise ConfigError(
            f"{option} {path}: only Kubeflow's launcher reads it, and only for artifacts; expected a gs:// or "
            "s3:// URI, or a path in a mounted volume (--set cluster.volumes)."
        )
