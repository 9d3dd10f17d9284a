"""Artifacts at places where a step can reach them.

Kubeflow's launcher copies a step's inputs from object storage to folders of the container before the step, and its
outputs from there afterwards: a `gs://`, `s3://` or `minio://` URI stands for `/gcs/`, `/s3/` or `/minio/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfx import types

MIRRORS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Where the launcher keeps its copies, by the scheme of what is copied."""

Artifacts = Mapping[str, Sequence[types.Artifact]]


@contextlib.contextmanager
def local_artifact_paths(
    inputs: Artifacts, outputs: Artifacts, *, mirrored: bool, mirrors: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Within the context artifacts have paths of the launcher's copies, and outputs a folder; afterwards their URIs.

    Args:
        inputs: of the step.
        outputs: of the step.
        mirrored: whether there is such a launcher.
        mirrors: in place of `MIRRORS`.
    """
    artifacts = [artifact for listed in (*inputs.values(), *outputs.values()) for artifact in listed]
    uris = [artifact.uri for artifact in artifacts]
    if mirrored:
        for artifact in artifacts:
            artifact.uri = _mirror(artifact.uri, mirrors or MIRRORS)
    for artifact in (artifact for listed in outputs.values() for artifact in listed):
        # Not every launcher makes the folders, nor does every executor.
        if "://" not in artifact.uri:
            Path(artifact.uri).mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for artifact, uri in zip(artifacts, uris, strict=True):
            artifact.uri = uri


def _mirror(uri: str, mirrors: Mapping[str, str]) -> str:
    for scheme, folder in mirrors.items():
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    return uri
