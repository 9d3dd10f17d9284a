"""Where a cluster's run has what: everything below its root, unless settings name another place."""

from __future__ import annotations

import dataclasses

from pipeline.cluster.settings import Request
from storygan_tf.errors import ConfigError

KFP_ONLY = "minio://"
"""Begins roots that Kubeflow's launcher reaches, and nothing within a container does."""


@dataclasses.dataclass(frozen=True)
class Places:
    """URIs or paths, in the containers.

    Attributes:
        artifacts: what steps hand on.
        serving: model base directory that Pusher adds a version to.
        work: what a training resumes from.
    """

    artifacts: str
    serving: str
    work: str

    @classmethod
    def of(cls, request: Request) -> Places:
        """Returns the places of a request.

        Raises:
            ConfigError: for a relative path, or where pushed models would go to where containers cannot write.
        """
        root = request.root.rstrip("/")
        places = cls(
            artifacts=f"{root}/pipeline_root",
            serving=request.cluster.serving.rstrip("/") or f"{root}/serving",
            work=request.cluster.work.rstrip("/") or f"{root}/work",
        )
        _check(root, "--root")
        _check(request.data, "--data")
        for name in ("serving", "work"):
            _check(getattr(places, name), f"cluster.{name}")
            if getattr(places, name).startswith(KFP_ONLY):
                raise ConfigError(
                    f"cluster.{name}: {getattr(places, name)!r} can be written by Kubeflow's launcher alone; give a "
                    f"gs:// or s3:// URI, or a mounted volume's path: --set cluster.{name}=/mnt/storygan/{name}."
                )
        return places


def _check(place: str, option: str) -> None:
    if "://" not in place and not place.startswith("/"):
        raise ConfigError(
            f"{option} {place}: expected a URI (gs://bucket/folder, s3://bucket/folder) or the absolute path of a "
            "folder that is mounted in every container."
        )
