"""Local paths of artifacts that Kubeflow's launcher copies.

Before a step the launcher copies its inputs from object storage to folders of the container, and after the step its
outputs back. The folder of a `gs://`, `s3://` or `minio://` URI is below `/gcs/`, `/s3/` or `/minio/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfx import types

MIRRORS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Folder of the launcher's copies, by the scheme of the copied URI."""

Artifacts = Mapping[str, Sequence[types.Artifact]]


@contextlib.contextmanager
def local_artifact_paths(
    inputs: Artifacts, outputs: Artifacts, *, mirrored: bool, mirrors: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Replaces the URIs of artifacts by the paths of the launcher's copies within the context.

    It also creates the folders of outputs that have a local path. After the context the artifacts have their URIs
    again.

    Args:
        inputs: input artifacts of the step, by the input's name.
        outputs: output artifacts of the step, by the output's name.
        mirrored: whether a launcher copies the artifacts; otherwise the URIs are left unchanged.
        mirrors: folders by scheme, instead of `MIRRORS`.
    """
    artifacts = [artifact for listed in (*inputs.values(), *outputs.values()) for artifact in listed]
    uris = [artifact.uri for artifact in artifacts]
    if mirrored:
        for artifact in artifacts:
            artifact.uri = _mirror(artifact.uri, mirrors or MIRRORS)
    for artifact in (artifact for listed in outputs.values() for artifact in listed):
        # Not every launcher creates the folders, and not every executor does.
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
