"""Folders in object storage (`s3://` and `gs://` URIs), which are copied to this machine and back.

TensorFlow cannot read `s3://`, and most of this project's code reads local files. So a folder in a bucket is fetched,
used as a local folder, and stored again, with the clients of Amazon and Google. Beam's file systems, which Beam workers
use (`components.record_files`), would open a new connection for each file, cannot write an empty file to S3, and retry
for minutes if there are no credentials.

An object appears complete or not at all, but a folder does not. While a folder is stored, it contains an object
`.storing`, and `fetch` refuses a folder that contains one. Files that mark others as complete (`LAST`) are stored after
the files that they mark.
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
"""Name of the object in a folder that is being stored, or whose storing was interrupted."""

LAST = (("state.json",), ("saved_model.pb",), ("made_of.json", "ended.json"))
"""Files that mark a checkpoint, a model, and a preparation or training as complete; stored last, in this order."""

STORE_SECONDS = 60.0
"""Default interval at which `kept` stores a folder."""

_THREADS = 8

_SCHEMES = ("s3://", "gs://")


class BucketError(StoryGANError):
    """A bucket cannot be used."""


def is_remote(uri: str) -> bool:
    """Returns whether a URI is that of an object or a folder in a bucket."""
    return uri.startswith(_SCHEMES)


def list_files(uri: str) -> list[str]:
    """Returns the sorted paths of all files below a folder, relative to the folder; empty if it does not exist.

    Raises:
        BucketError: if the bucket cannot be read.
    """
    bucket, key = _parse(uri)
    prefix = f"{key}/" if key else ""
    with _bucket_errors(uri):
        keys = _store(uri).keys(bucket, prefix)
    return sorted(key.removeprefix(prefix) for key in keys if not key.endswith("/"))


def fetch(uri: str, local: Path) -> None:
    """Copies a folder or a file from a bucket to this machine.

    Args:
        uri: URI of the folder or the file.
        local: path of the copy.

    Raises:
        DataError: if it does not exist, or is a folder that is not completely stored.
        BucketError: if the bucket cannot be read.
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
    with _bucket_errors(uri):
        if not key or key not in _store(uri).keys(bucket, key):
            raise DataError(f"{uri}: holds nothing; expected a folder or a file. Look whether the name is right.")
        local.parent.mkdir(parents=True, exist_ok=True)
        _store(uri).get(bucket, key, local)


def store_file(local: Path, uri: str) -> None:
    """Stores a file; the object appears complete or not at all.

    Raises:
        BucketError: if the bucket cannot be written.
    """
    bucket, key = _parse(uri)
    with _bucket_errors(uri):
        _store(uri).put(local, bucket, key)


def store(local: Path, uri: str) -> None:
    """Stores a folder and removes all other files below its URI; see `Copy.store`."""
    copy = Copy(uri, local)
    copy.replace()
    copy.store()


def remove_folder(uri: str) -> None:
    """Removes all files below a folder.

    Raises:
        BucketError: if the bucket cannot be written.
    """
    bucket, key = _parse(uri)
    names = list_files(uri)
    with _bucket_errors(uri):
        _store(uri).delete(bucket, [f"{key}/{name}" if key else name for name in names])


def newest_version(base: str) -> str:
    """Returns the name of the newest complete version in a model base directory; empty if there is none."""
    return newest_version_among(list_files(base))


class Copy:
    """A local copy of a folder in a bucket, which stores the files that change.

    Args:
        uri: URI of the folder in the bucket.
        local: path of the copy.

    Attributes:
        cut_off: whether the last attempt to store the folder was interrupted.
    """

    def __init__(self, uri: str, local: Path) -> None:
        self.uri = uri.rstrip("/")
        self.local = local
        self.cut_off = False
        self._stored: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Fetches the folder, complete or not, so that the work in it can continue; it may be missing.

        Raises:
            BucketError: if the bucket cannot be read.
        """
        self.replace()
        self.local.mkdir(parents=True, exist_ok=True)
        _fetch_files(self.uri, self._stored, self.local)
        self._stored |= {name: state for name, state in self._states().items() if name in self._stored}

    def replace(self) -> None:
        """Lists the files in the bucket, so that `store` removes those that the local folder does not have.

        Raises:
            BucketError: if the bucket cannot be read.
        """
        names = list_files(self.uri)
        self.cut_off = STORING in names
        self._stored = {name: (-1, -1) for name in names if name != STORING}

    def store(self, *, whole: bool = True) -> None:
        """Stores changed files, and removes files that the local folder no longer has; files of `LAST` come last.

        Files that are still being written are not stored. Files that others added to the bucket meanwhile stay.

        Args:
            whole: whether the folder counts as complete afterwards; otherwise a folder that was marked as interrupted
                stays so.

        Raises:
            BucketError: if the bucket cannot be written.
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
        # Files that mark others as complete are removed before those change.
        folders = {folder for name in changed for folder in PurePosixPath(name).parents}
        stale = [name for name in (*changed, *gone) if _rank(name) and PurePosixPath(name).parent in folders]
        self._remove([name for name in stale if name in self._stored])
        whole = True
        for _, names in itertools.groupby(sorted(changed, key=_rank), key=_rank):
            whole = self._put(list(names), states) and whole
        if whole:
            self._remove(sorted((name for name in gone if name in self._stored), key=_rank, reverse=True))

    def _states(self) -> dict[str, tuple[int, int]]:
        """Returns size and modification time of each file that is not being written."""
        states = {}
        for folder, folders, names in os.walk(self.local):
            folders[:] = [name for name in folders if not _unfinished(name)]
            for path in (Path(folder, name) for name in names if not _unfinished(name)):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    states[path.relative_to(self.local).as_posix()] = (stat.st_size, stat.st_mtime_ns)
        return states

    def _put(self, names: list[str], states: dict[str, tuple[int, int]]) -> bool:
        """Stores files, and returns whether all still existed; an old checkpoint may be removed meanwhile."""

        def put(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                store_file(self.local / name, f"{self.uri}/{name}")
                self._stored[name] = states[name]

        _all(put, names)
        return all(self._stored.get(name) == states[name] for name in names)

    def _remove(self, names: list[str]) -> None:
        bucket, key = _parse(self.uri)
        with _bucket_errors(self.uri):
            _store(self.uri).delete(bucket, [f"{key}/{name}" if key else name for name in names])
        for name in names:
            del self._stored[name]


@contextlib.contextmanager
def kept(uri: str, seconds: float | None = STORE_SECONDS) -> Iterator[Copy]:
    """Yields a local copy of a folder in a bucket, and stores its changes at the end, also after an error.

    Args:
        uri: URI of the folder, which may be missing.
        seconds: interval at which changes are stored before the end, so that work that is killed can continue on
            another machine; None for never.

    Raises:
        BucketError: if the bucket cannot be used.
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
        # The next attempt may succeed; `kept` raises the error of the last one.
        with contextlib.suppress(BucketError, OSError):
            copy.store(whole=False)


def _unfinished(name: str) -> bool:
    """Returns whether the name of a file or folder marks it as still being written."""
    hidden = name.startswith(".") and name.endswith(".writing")
    return hidden or name == "unfinished" or name.endswith(".part") or name.startswith("writing-")


def _rank(name: str) -> int:
    """Returns a file's position in the order of storing: 0, or higher for the files of `LAST`."""
    own = PurePosixPath(name).name
    return next((turn for turn, names in enumerate(LAST, start=1) if own in names), 0)


def _fetch_files(uri: str, names: Iterable[str], local: Path) -> None:
    bucket, key = _parse(uri)

    def get(name: str) -> None:
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _bucket_errors(uri):
            _store(uri).get(bucket, f"{key}/{name}" if key else name, path)

    _all(get, names)


@contextlib.contextmanager
def _marked(uri: str, *, stays: bool) -> Iterator[None]:
    """Marks a folder as incomplete until the context ends; the mark stays after an error, or if `stays` is true."""
    bucket, key = _parse(f"{uri}/{STORING}")
    with tempfile.NamedTemporaryFile(prefix="storygan-") as empty:
        store_file(Path(empty.name), f"{uri}/{STORING}")
    yield
    if not stays:
        with _bucket_errors(uri):
            _store(uri).delete(bucket, [key])


def _all(function: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls a function for all names in several threads; raises the first error."""
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            list(pool.map(function, names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _parse(uri: str) -> tuple[str, str]:
    """Returns the bucket and the key of a URI; raises ConfigError if it is not one of a bucket."""
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
    """S3, or a service with the same interface at the environment variable `AWS_ENDPOINT_URL`."""

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
    """Google Cloud Storage, or a service with the same interface at the variable `STORAGE_EMULATOR_HOST`."""

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
    """Ignores that an object to delete does not exist."""


_making = threading.Lock()


def _store(uri: str) -> _Store:
    with _making:
        return _connect(uri[: uri.index("://")])


@functools.cache
def _connect(scheme: str) -> _Store:
    """Returns the connection to a kind of object storage; all threads share it."""
    module, extra = {"s3": ("boto3", "s3"), "gs": ("google.cloud.storage", "pipeline")}[scheme]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise BucketError(f"{scheme}://: needs the package {module}. Install it: pip install 'storygan[{extra}]'")
    return _S3() if scheme == "s3" else _GCS()


def check_access(uri: str) -> None:
    """Checks that credentials and the client for a bucket exist; Beam's workers would retry for minutes.

    Raises:
        BucketError: if the credentials or the client are missing.
    """
    if is_remote(uri):
        _store(uri)


def forget_connections() -> None:
    """Drops all connections, so that the next use connects with the current credentials and endpoint."""
    _connect.cache_clear()


@contextlib.contextmanager
def _bucket_errors(uri: str) -> Iterator[None]:
    """Converts errors of the clients to a BucketError of one line; errors of local files pass."""
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
