"""Folders that a command reads or writes: on this machine, or in a bucket, of which the command uses a local copy.

Options that may name a bucket have the type `str`, because a typer option of type `Path` turns `s3://` into `s3:/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from storygan_tf.common.errors import ConfigError, ModelError, StoryGANError


@dataclasses.dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine: the one that an option names, or a copy of the one in a bucket.

    Attributes:
        name: path or URI, as the user wrote it.
        path: path of the folder or of the copy.
        incomplete: whether it is a copy of a folder in a bucket that was not stored completely.
    """

    name: str
    path: Path
    incomplete: bool = False

    @property
    def remote(self) -> bool:
        """Whether the folder is a copy of one in a bucket."""
        return in_bucket(self.name)

    def display_path(self, path: Path | str) -> str:
        """Returns a path in this folder as the user knows it: in the bucket, not in the copy."""
        return str(path).replace(str(self.path), self.name.rstrip("/")) if self.remote else str(path)


def in_bucket(location: str | Path | None) -> bool:
    """Returns whether the value of an option, URI or path, is in a bucket; also recognises the `s3:/` of a `Path`."""
    from components.buckets import is_remote

    return location is not None and is_remote(re.sub(":/+", "://", str(location), count=1))


@contextlib.contextmanager
def read_folder(location: str) -> Iterator[LocalFolder]:
    """Yields a folder to read; a copy of a folder in a bucket is removed at the end.

    Raises:
        DataError: if the folder in the bucket is missing or incomplete.
        BucketError: if the bucket cannot be read.
    """
    if not in_bucket(location):
        yield LocalFolder(location, Path(location))
        return
    from components.buckets import fetch

    with tempfile.TemporaryDirectory(prefix="storygan-") as temporary:
        folder = LocalFolder(location, Path(temporary, "copy"))
        fetch(location, folder.path)
        with _original_paths_in_errors(folder):
            yield folder


@contextlib.contextmanager
def synced_folder(location: str, *, periodically: bool = False) -> Iterator[LocalFolder]:
    """Yields a folder to write results to; a copy is stored in the bucket at the end, also after an error.

    Args:
        location: path or URI of the folder. What is already there is in the copy.
        periodically: whether to store the copy every minute as well.

    Raises:
        BucketError: if the bucket cannot be read or written.
    """
    if not in_bucket(location):
        yield LocalFolder(location, Path(location))
        return
    from components.buckets import STORE_SECONDS, kept

    with kept(location, STORE_SECONDS if periodically else None) as copy:
        folder = LocalFolder(location, copy.local, copy.cut_off)
        with _original_paths_in_errors(folder):
            yield folder


@contextlib.contextmanager
def local_model(model: str | None) -> Iterator[str | None]:
    """Yields the value of `--model`, or the path of a copy of the newest complete version in a bucket.

    Raises:
        ModelError: if the bucket has no exported model at that place.
        BucketError: if the bucket cannot be read.
    """
    if model is None or not in_bucket(model):
        yield model
        return
    from components.buckets import fetch

    version = _version_uri(model.rstrip("/"))
    with tempfile.TemporaryDirectory(prefix="storygan-") as temporary:
        # The name of a version directory is the version.
        folder = Path(temporary, version.rpartition("/")[2])
        fetch(version, folder)
        with _original_paths_in_errors(LocalFolder(version, folder)):
            yield str(folder)


def fetch_data(location: str, out: Path) -> Path:
    """Returns a folder of stories; one in a bucket is copied to `data` in the run directory `out`.

    The copy always has the same path, because the pipeline treats a folder with another path as other data.
    """
    if not in_bucket(location):
        return Path(location)
    from components.buckets import fetch

    target, writing = out.absolute() / "data", out.absolute() / ".data.writing"
    shutil.rmtree(writing, ignore_errors=True)
    fetch(location, writing)
    shutil.rmtree(target, ignore_errors=True)
    writing.replace(target)
    return target


def require_local(option: str, location: str | Path | None, reason: str) -> None:
    """Checks that the value of an option is not in a bucket.

    Raises:
        ConfigError: if it is in a bucket; the message ends with `reason`.
    """
    if in_bucket(location):
        raise ConfigError(f"{option} {location}: is in a bucket; expected a place on this machine: {reason}.")


def require_local_workers(beam_args: Sequence[str], *locations: str) -> None:
    """Checks that Beam's workers are on this machine if a folder is in a bucket, because they read its local copy.

    Raises:
        ConfigError: if a folder is in a bucket and the workers may be on other machines.
    """
    if not any(map(in_bucket, locations)):
        return
    from components.beam_options import LOOPBACK, is_local

    if not is_local(beam_args) and LOOPBACK not in beam_args:
        raise ConfigError(
            f"{next(filter(in_bucket, locations))}: is in a bucket, and its copy on this machine is out of reach for "
            "workers elsewhere; expected a folder that all of them share, or workers on this machine."
        )


def _version_uri(uri: str) -> str:
    """Returns the URI of the newest version directory in a run or model base directory, or `uri` if it is one."""
    from components.buckets import list_files, newest_version
    from storygan_tf.common.model_paths import BASE_DIRECTORY

    if "saved_model.pb" in list_files(uri):
        return uri
    for base in (f"{uri}/{BASE_DIRECTORY}", uri):
        version = newest_version(base)
        if version:
            return f"{base}/{version}"
    raise ModelError(
        f"--model {uri}: holds no exported model; expected {uri}/<version>/saved_model.pb, or the folder of a "
        "training or a run."
    )


@contextlib.contextmanager
def _original_paths_in_errors(folder: LocalFolder) -> Iterator[None]:
    """Replaces paths of the temporary copy in error messages by their places in the bucket."""
    try:
        yield
    except StoryGANError as error:
        error.args = tuple(folder.display_path(part) if isinstance(part, str) else part for part in error.args)
        raise
