"""Folders that a command is given: of this machine, or `s3://` and `gs://` ones, of which it works on copies.

A typer option of type Path turns `s3://` into `s3:/`: options that may be in a bucket are texts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from storygan_tf.common.errors import ConfigError, ModelError, StoryGANError

_SCHEMES = ("s3:/", "gs:/")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder that a command works on.

    Attributes:
        name: as it was given.
        path: on this machine.
        cut_off: whether it is a copy of one that was not stored whole.
    """

    name: str
    path: Path
    cut_off: bool = False

    @property
    def remote(self) -> bool:
        """Whether it is a copy."""
        return is_bucket_uri(self.name)

    def display_path(self, path: Path | str) -> str:
        """Returns how a user is told of a path in it."""
        return str(path).replace(str(self.path), self.name.rstrip("/")) if self.remote else str(path)


def is_bucket_uri(given: str | Path | None) -> bool:
    """Tells whether an option names a place in a bucket."""
    return given is not None and str(given).startswith(_SCHEMES)


@contextlib.contextmanager
def read_folder(given: str) -> Iterator[Folder]:
    """Gives a folder to read.

    Raises:
        DataError: where there is nothing in the bucket, or only a part.
        BucketError: where the bucket cannot be read.
    """
    if not is_bucket_uri(given):
        yield Folder(given, Path(given))
        return
    from components.buckets import fetch

    with tempfile.TemporaryDirectory(prefix="storygan-") as place:
        folder = Folder(given, Path(place, "copy"))
        fetch(given, folder.path)
        with _names(folder):
            yield folder


@contextlib.contextmanager
def synced_folder(given: str, *, meanwhile: bool = False) -> Iterator[Folder]:
    """Gives a folder to go on in and to leave results in, which are stored at the end, also after an error.

    Args:
        given: of this machine, or in a bucket.
        meanwhile: whether it is stored now and then, too.

    Raises:
        BucketError: where the bucket cannot be used.
    """
    if not is_bucket_uri(given):
        yield Folder(given, Path(given))
        return
    from components.buckets import STORE_SECONDS, kept

    with kept(given, STORE_SECONDS if meanwhile else None) as copy:
        folder = Folder(given, copy.local, copy.cut_off)
        with _names(folder):
            yield folder


@contextlib.contextmanager
def local_model(given: str | None) -> Iterator[str | None]:
    """Gives `--model` as it is, or a copy of the newest whole version in a bucket.

    Raises:
        ModelError: where there is none.
        BucketError: where the bucket cannot be read.
    """
    if given is None or not is_bucket_uri(given):
        yield given
        return
    from components.buckets import fetch

    version = _version(given.rstrip("/"))
    with tempfile.TemporaryDirectory(prefix="storygan-") as place:
        # Its name is the version.
        folder = Path(place, version.rpartition("/")[2])
        fetch(version, folder)
        with _names(Folder(version, folder)):
            yield str(folder)


def fetch_data(given: str, out: Path) -> Path:
    """Returns a folder of stories, fetched into a run directory where it is in a bucket.

    Always to the same place: the pipeline takes a folder of another name for other data.
    """
    if not is_bucket_uri(given):
        return Path(given)
    from components.buckets import fetch

    target, aside = out.absolute() / "data", out.absolute() / ".data.writing"
    shutil.rmtree(aside, ignore_errors=True)
    fetch(given, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.replace(target)
    return target


def require_local(option: str, given: str | Path | None, why: str) -> None:
    """Refuses a place in a bucket.

    Raises:
        ConfigError: where it is one.
    """
    if is_bucket_uri(given):
        raise ConfigError(f"{option} {given}: is in a bucket; expected a place on this machine: {why}.")


def require_local_workers(beam_args: Sequence[str], *given: str) -> None:
    """Refuses folders in buckets where Beam's workers are elsewhere: they would not see this machine's copies.

    Raises:
        ConfigError: where both come together.
    """
    if not any(map(is_bucket_uri, given)):
        return
    from components.beam_options import LOOPBACK, is_local

    if not is_local(beam_args) and LOOPBACK not in beam_args:
        raise ConfigError(
            f"{next(filter(is_bucket_uri, given))}: is in a bucket, and its copy on this machine is out of reach for "
            "workers elsewhere; expected a folder that all of them share, or workers on this machine."
        )


def _version(given: str) -> str:
    """Returns the URI of a version directory."""
    from components.buckets import list_files, newest_version
    from storygan_tf.common.model_paths import BASE_DIRECTORY

    if "saved_model.pb" in list_files(given):
        return given
    for base in (f"{given}/{BASE_DIRECTORY}", given):
        version = newest_version(base)
        if version:
            return f"{base}/{version}"
    raise ModelError(
        f"--model {given}: holds no exported model; expected {given}/<version>/saved_model.pb, or the folder of a "
        "training or a run."
    )


@contextlib.contextmanager
def _names(folder: Folder) -> Iterator[None]:
    """Lets errors name places in the bucket, and not those of a copy that is gone by then."""
    try:
        yield
    except StoryGANError as error:
        error.args = tuple(folder.display_path(part) if isinstance(part, str) else part for part in error.args)
        raise
