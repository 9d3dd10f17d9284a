"""Where a cluster's run has what: everything below its root, unless settings name another place."""

from __future__ import annotations

import dataclasses

from pipeline.cluster.cluster_settings import CompileRequest
from storygan_tf.common.errors import ConfigError

_LAUNCHERS = "minio://"
"""Begins places that Kubeflow's launcher reaches, and nothing within a container does."""


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
    def of(cls, request: CompileRequest) -> ClusterPaths:
        """Returns the places of a request.

        Raises:
            ConfigError: for a relative path, or one where steps cannot write.
        """
        root, cluster = request.root.rstrip("/"), request.cluster
        places = cls(
            artifacts=f"{root}/pipeline_root",
            serving=cluster.serving.rstrip("/") or f"{root}/serving",
            work=cluster.work.rstrip("/") or ("" if root.startswith(_LAUNCHERS) else f"{root}/work"),
        )
        _check(root, "--root")
        _check(request.data, "--data")
        for option, place in (("serving", places.serving), ("work", places.work)):
            _check(place, f"cluster.{option}")
            _check_reached(place, f"cluster.{option}")
        _check_reached(request.data, "--data")
        return places


def _check(place: str, option: str) -> None:
    if place and "://" not in place and not place.startswith("/"):
        raise ConfigError(
            f"{option} {place}: expected a URI (gs://bucket/folder, s3://bucket/folder) or the absolute path of a "
            "folder that is mounted in every container."
        )


def _check_reached(place: str, option: str) -> None:
    if place.startswith(_LAUNCHERS):
        raise ConfigError(
            f"{option} {place}: Kubeflow's launcher alone reaches it, for artifacts; give a gs:// or s3:// URI, or a "
            "mounted volume's path (--set cluster.volumes)."
        )
