"""Folders in object storage: `s3://` and `gs://` URIs, copied to this machine and back.

TensorFlow reads no `s3://`, and most of this project's code reads files of this machine. So a folder in a bucket is
fetched, worked on as a local one, and stored again. Amazon's and Google's own clients do it: Beam's file systems, which
Beam's workers use (`components.record_files`), connect anew for each file, cannot write an empty one to S3, and try for
minutes where there are no credentials.

An object appears whole or not at all, a folder does not. While one is stored, an object `.storing` stands in it, and
`fetch` refuses what has one; and what others wait for (`LAST`) is stored after everything that it stands for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from storygan_tf.common.errors import ConfigError, DataError, StoryGANError
from storygan_tf.common.model_paths import newest_version_among

STORING = ".storing"
"""In a folder that is being stored, or whose storing was cut off."""

LAST = (("state.json",), ("saved_model.pb",), ("made_of.json", "ended.json"))
"""Files that say that others are whole: of a checkpoint, a model, a preparation and a training; in this order."""

STORE_SECONDS = 60.0
"""So often a folder that is kept is stored while it is worked on."""

_THREADS = 8

_SCHEMES = ("s3://", "gs://")


class BucketError(StoryGANError):
    """A bucket cannot be used, or does not hold what it should."""


def is_remote(uri: str) -> bool:
    """Tells whether something lies in a bucket."""
    return uri.startswith(_SCHEMES)


def list_files(uri: str) -> list[str]:
    """Returns the files of a folder and of its folders, named from there, sorted; empty where there is none.

    Raises:
        BucketError: where the bucket cannot be read.
    """
    bucket, key = _parse(uri)
    prefix = f"{key}/" if key else ""
    with _told(uri):
        keys = _store(uri).keys(bucket, prefix)
    return sorted(found.removeprefix(prefix) for found in keys if not found.endswith("/"))


def fetch(uri: str, local: Path) -> None:
    """Copies a whole folder, or a file, to this machine.

    Args:
        uri: of a folder or a file.
        local: what it becomes.

    Raises:
        DataError: where there is none, or only a part of one.
        BucketError: where the bucket cannot be read.
    """
    names = list_files(uri)
    if STORING in names:
        raise DataError(
            f"{uri}: is being stored just now, or storing it was cut off ({uri}/{STORING} is there). Wait, or run the "
            "command that makes it again."
        )
    if names:
        _fetch_files(uri, names, local)
        return
    bucket, key = _parse(uri)
    with _told(uri):
        if not key or key not in _store(uri).keys(bucket, key):
            raise DataError(f"{uri}: holds nothing; expected a folder or a file. Look whether the name is right.")
        local.parent.mkdir(parents=True, exist_ok=True)
        _store(uri).get(bucket, key, local)


def store_file(local: Path, uri: str) -> None:
    """Stores a file; it is there whole or not at all.

    Raises:
        BucketError: where the bucket cannot be written.
    """
    bucket, key = _parse(uri)
    with _told(uri):
        _store(uri).put(local, bucket, key)


def store(local: Path, uri: str) -> None:
    """Stores a folder in place of what is there; see `Copy.store`."""
    copy = Copy(uri, local)
    copy.replace()
    copy.store()


def remove_folder(uri: str) -> None:
    """Removes everything below a folder.

    Raises:
        BucketError: where the bucket cannot be written.
    """
    bucket, key = _parse(uri)
    names = list_files(uri)
    with _told(uri):
        _store(uri).delete(bucket, [f"{key}/{name}" if key else name for name in names])


def newest_version(base: str) -> str:
    """Returns the name of the newest whole version in a model base directory; empty where there is none."""
    return newest_version_among(list_files(base))


class Copy:
    """A copy of a folder in a bucket, on this machine; what changes there is stored.

    Args:
        uri: of the folder in the bucket.
        local: of this machine.

    Attributes:
        cut_off: whether storing it was cut off, the last time.
    """

    def __init__(self, uri: str, local: Path) -> None:
        self.uri = uri.rstrip("/")
        self.local = local
        self.cut_off = False
        self._stored: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Fetches what is there, whole or not, for the one who goes on with it; nothing where nothing is there.

        Raises:
            BucketError: where the bucket cannot be read.
        """
        self.replace()
        self.local.mkdir(parents=True, exist_ok=True)
        _fetch_files(self.uri, self._stored, self.local)
        self._stored |= {name: state for name, state in self._states().items() if name in self._stored}

    def replace(self) -> None:
        """Takes note of what is there, so that it goes where this machine's folder does not have it.

        Raises:
            BucketError: where the bucket cannot be read.
        """
        names = list_files(self.uri)
        self.cut_off = STORING in names
        self._stored = {name: (-1, -1) for name in names if name != STORING}

    def store(self, *, whole: bool = True) -> None:
        """Stores what changed, and removes what is gone; files of `LAST` after all others.

        Left out is what is still being written. What others put into the folder meanwhile stays.

        Args:
            whole: whether this makes good what was cut off; else the folder stays marked.

        Raises:
            BucketError: where the bucket cannot be written.
        """
        with self._lock:
            states = self._states()
            changed = [name for name, state in states.items() if self._stored.get(name) != state]
            gone = [name for name in self._stored if name not in states]
            made_good = self.cut_off and whole
            if changed or gone or made_good:
                with _marked(self.uri, stays=self.cut_off and not whole):
                    self._store(states, changed, gone)
            self.cut_off = self.cut_off and not whole

    def _store(self, states: dict[str, tuple[int, int]], changed: list[str], gone: list[str]) -> None:
        # What says that others are whole goes before they change.
        folders = {folder for name in changed for folder in PurePosixPath(name).parents}
        stale = [name for name in (*changed, *gone) if _rank(name) and PurePosixPath(name).parent in folders]
        self._remove([name for name in stale if name in self._stored])
        whole = True
        for _, names in itertools.groupby(sorted(changed, key=_rank), key=_rank):
            whole = self._put(list(names), states) and whole
        if whole:
            self._remove(sorted((name for name in gone if name in self._stored), key=_rank, reverse=True))

    def _states(self) -> dict[str, tuple[int, int]]:
        """Returns size and time of each file that is not being written."""
        states = {}
        for folder, folders, names in os.walk(self.local):
            folders[:] = [name for name in folders if not _unfinished(name)]
            for path in (Path(folder, name) for name in names if not _unfinished(name)):
                with contextlib.suppress(FileNotFoundError):
                    told = path.stat()
                    states[path.relative_to(self.local).as_posix()] = (told.st_size, told.st_mtime_ns)
        return states

    def _put(self, names: list[str], states: dict[str, tuple[int, int]]) -> bool:
        """Stores files; tells whether all were still there, and not gone like a checkpoint that made room."""

        def put(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                store_file(self.local / name, f"{self.uri}/{name}")
                self._stored[name] = states[name]

        _all(put, names)
        return all(self._stored.get(name) == states[name] for name in names)

    def _remove(self, names: list[str]) -> None:
        bucket, key = _parse(self.uri)
        with _told(self.uri):
            _store(self.uri).delete(bucket, [f"{key}/{name}" if key else name for name in names])
        for name in names:
            del self._stored[name]


@contextlib.contextmanager
def kept(uri: str, seconds: float | None = STORE_SECONDS) -> Iterator[Copy]:
    """Gives a copy of a folder in a bucket, and stores what becomes of it, also after an error.

    Args:
        uri: of the folder; empty at first.
        seconds: so often it is stored meanwhile, too, so that work that is killed goes on elsewhere; None for never.

    Raises:
        BucketError: where the bucket cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="storygan-") as folder:
        copy = Copy(uri, Path(folder, "copy"))
        copy.fetch()
        ended = threading.Event()
        thread = threading.Thread(target=_keep_storing, args=(copy, ended, seconds), daemon=True)
        thread.start()
        whole = False
        try:
            yield copy
            whole = True
        finally:
            ended.set()
            thread.join()
            copy.store(whole=whole)


def _keep_storing(copy: Copy, ended: threading.Event, seconds: float | None) -> None:
    while not ended.wait(seconds):
        # A bucket that is out of reach for a while may be back the next time; the last time tells the error.
        with contextlib.suppress(BucketError, OSError):
            copy.store(whole=False)


def _unfinished(name: str) -> bool:
    """Tells whether a file or folder has a name of what is still being written."""
    hidden = name.startswith(".") and name.endswith(".writing")
    return hidden or name == "unfinished" or name.endswith(".part") or name.startswith("writing-")


def _rank(name: str) -> int:
    """Returns when a file's turn is: 0 for those that say nothing of others."""
    own = PurePosixPath(name).name
    return next((turn for turn, names in enumerate(LAST, start=1) if own in names), 0)


def _fetch_files(uri: str, names: Iterable[str], local: Path) -> None:
    bucket, key = _parse(uri)

    def get(name: str) -> None:
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _told(uri):
            _store(uri).get(bucket, f"{key}/{name}" if key else name, path)

    _all(get, names)


@contextlib.contextmanager
def _marked(uri: str, *, stays: bool) -> Iterator[None]:
    """Marks a folder as not whole; after an error, or where it is to, the mark stays."""
    bucket, key = _parse(f"{uri}/{STORING}")
    with tempfile.NamedTemporaryFile(prefix="storygan-") as empty:
        store_file(Path(empty.name), f"{uri}/{STORING}")
    yield
    if not stays:
        with _told(uri):
            _store(uri).delete(bucket, [key])


def _all(function: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls a function for all names, some at a time; the first error ends it."""
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            list(pool.map(function, names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _parse(uri: str) -> tuple[str, str]:
    """Returns bucket and key."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not is_remote(uri) or not bucket:
        raise ConfigError(f"{uri}: expected s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.")
    return bucket, key.rstrip("/")


# The two kinds of object storage


class _Store(Protocol):
    def keys(self, bucket: str, prefix: str) -> list[str]: ...

    def get(self, bucket: str, key: str, path: Path) -> None: ...

    def put(self, path: Path, bucket: str, key: str) -> None: ...

    def delete(self, bucket: str, keys: list[str]) -> None: ...


class _S3:
    """S3, or what speaks its language; `AWS_ENDPOINT_URL` says where, as Amazon's own tools read it."""

    def __init__(self) -> None:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session()
        if session.get_credentials() is None:
            raise BucketError(
                "s3://: found no credentials; expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, "
                "a profile in AWS_PROFILE, or a role of the machine."
            )
        config = Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=10)
        self._client = session.client("s3", config=config)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def get(self, bucket: str, key: str, path: Path) -> None:
        self._client.download_file(bucket, key, str(path))

    def put(self, path: Path, bucket: str, key: str) -> None:
        self._client.upload_file(str(path), bucket, key)

    def delete(self, bucket: str, keys: list[str]) -> None:
        for key in keys:
            self._client.delete_object(Bucket=bucket, Key=key)


class _GCS:
    """Google Cloud Storage; `STORAGE_EMULATOR_HOST` says where, as Google's own client reads it."""

    def __init__(self) -> None:
        from google.cloud import storage

        self._client = storage.Client()

    def keys(self, bucket: str, prefix: str) -> list[str]:
        return [blob.name for blob in self._client.list_blobs(bucket, prefix=prefix)]

    def get(self, bucket: str, key: str, path: Path) -> None:
        self._client.bucket(bucket).blob(key).download_to_filename(str(path))

    def put(self, path: Path, bucket: str, key: str) -> None:
        self._client.bucket(bucket).blob(key).upload_from_filename(str(path))

    def delete(self, bucket: str, keys: list[str]) -> None:
        self._client.bucket(bucket).delete_blobs(
            [self._client.bucket(bucket).blob(key) for key in keys], on_error=_pass
        )


def _pass(blob: Any) -> None:
    """Takes what is not there as removed."""


_making = threading.Lock()


def _store(uri: str) -> _Store:
    with _making:
        return _connect(uri[: uri.index("://")])


@functools.cache
def _connect(scheme: str) -> _Store:
    """Returns the connection, one for all threads."""
    module, extra = {"s3": ("boto3", "s3"), "gs": ("google.cloud.storage", "pipeline")}[scheme]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise BucketError(f"{scheme}://: needs the package {module}. Install it: pip install 'storygan[{extra}]'")
    return _S3() if scheme == "s3" else _GCS()


def check_access(uri: str) -> None:
    """Tells at once what Beam's workers would try for minutes: that there are no credentials, or no client.

    Raises:
        BucketError: where one of them is missing.
    """
    if is_remote(uri):
        _store(uri)


def forget_connections() -> None:
    """Connects anew the next time: with other credentials, or to another endpoint."""
    _connect.cache_clear()


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """Tells in one line what is wrong with a bucket; files of this machine have errors of their own."""
    try:
        yield
    except StoryGANError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("boto3", "botocore", "s3transfer", "google", "requests", "urllib3")):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BucketError(f"{uri}: {reason}. {_advice(uri, reason)}") from error


def _advice(uri: str, reason: str) -> str:
    bucket = f"{uri.partition('://')[0]}://{_parse(uri)[0]}"
    if "NoSuchBucket" in reason or "bucket does not exist" in reason.lower():
        return f"Make the bucket {bucket}, or give another one: this project makes none."
    if reason.startswith("404"):
        return f"Look whether the bucket {bucket} is there, and what is named in it: this project makes no bucket."
    if any(word in reason.lower() for word in ("denied", "forbidden", "403", "credential", "signature", "accesskey")):
        return f"Give credentials that may list, read and write {bucket} (docs/scale.md, Object storage)."
    return f"Look whether {bucket} can be reached, and whether the endpoint is right (docs/scale.md, Object storage)."
