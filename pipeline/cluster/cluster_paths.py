"""Where a cluster's run has what: everything below its root, unless settings name another path."""

from __future__ import annotations

import dataclasses

from pipeline.cluster.cluster_settings import CompileRequest
from storygan_tf.common.errors import ConfigError

_LAUNCHER_SCHEME = "minio://"
"""Begins paths that Kubeflow's launcher reaches, and nothing within a container does."""


@dataclasses.dataclass(frozen=True)
class ClusterPaths:
    """URIs or paths, in the containers.

    Attributes:
        artifacts: what steps hand on.
        serving: model base directory that Pusher adds a version to.
        work: folder that a training resumes from; empty where there is none that outlives a container.
    """

    artifacts: str
    serving: str
    work: str

    @classmethod
    def from_request(cls, request: CompileRequest) -> ClusterPaths:
        """Returns the paths of a request.

        Raises:
            ConfigError: for a relative path, or one where steps cannot write.
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
            f"{option} {path}: Kubeflow's launcher alone reaches it, for artifacts; give a gs:// or s3:// URI, or a "
            "mounted volume's path (--set cluster.volumes)."
        )
