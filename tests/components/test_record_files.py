"""Files of workers: whole or not there, and on any of Beam's file systems."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from components.record_files import list_files, read_file, read_records, remove_folder, write_file, write_records

CONTENTS = [b"one", b"", b"three" * 1000]


class Store(FileSystem):
    """An object store: no folders, no renaming in place, nothing there before a file is closed."""

    objects: dict[str, bytes] = {}  # noqa: RUF012 - shared by all instances, which Beam makes anew.

    @classmethod
    def scheme(cls):
        return "store"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        return (FileMetadata(name, len(body)) for name, body in self.objects.items() if name.startswith(dir_or_prefix))

    def create(self, path, mime_type="", compression_type="auto"):
        file = io.BytesIO()
        close = file.close

        def publish():
            with contextlib.suppress(ValueError):  # closed before
                self.objects[path] = file.getvalue()
            close()

        file.close = publish
        return contextlib.closing(file)

    def open(self, path, mime_type="", compression_type="auto"):
        return io.BytesIO(self.objects[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self.objects[target] = self.objects.pop(source)

    def exists(self, path):
        return any(name.startswith(path) for name in self.objects)

    def size(self, path):
        return len(self.objects[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        return ""

    def metadata(self, path):
        return FileMetadata(path, self.size(path))

    def delete(self, paths):
        for name in [name for name in self.objects if name.startswith(tuple(paths))]:
            del self.objects[name]


@pytest.fixture(params=["local", "store"])
def root(request, tmp_path):
    Store.objects.clear()
    return str(tmp_path / "a/b") if request.param == "local" else "store://bucket/b"


def test_records_come_back(root):
    path = f"{root}/Split-train/data.gz"
    assert write_records(path, iter(CONTENTS), f"{root}/aside") == 3
    assert list(read_records(path)) == CONTENTS
    assert gzip.decompress(read_file(path)).startswith(b"\x03\0\0\0\0\0\0\0")


def test_a_file_is_replaced_and_listed(root):
    for content in (b"old", b"new"):
        write_file(f"{root}/x.json", content, f"{root}/aside")
    write_file(f"{root}/y.json", b"", f"{root}/aside")
    assert read_file(f"{root}/x.json") == b"new"
    assert list_files(f"{root}/*.json") == [f"{root}/x.json", f"{root}/y.json"]


def test_no_record_no_file(root):
    assert write_records(f"{root}/data.gz", [], f"{root}/aside") == 0
    assert list_files(f"{root}/*.gz") == []


def test_what_fails_on_the_way_leaves_what_was_there(root):
    def contents():
        yield b"half"
        raise OSError("the worker's fault")

    write_records(f"{root}/data.gz", CONTENTS, f"{root}/aside")
    with pytest.raises(OSError, match="the worker's fault"):
        write_records(f"{root}/data.gz", contents(), f"{root}/aside")
    assert list(read_records(f"{root}/data.gz")) == CONTENTS
    assert [path.name for path in Path(root).rglob("*") if path.is_file()] in (["data.gz"], [])


def test_a_folder_goes_with_everything_in_it(root):
    write_file(f"{root}/aside/deep/x", b"1", f"{root}/aside")
    remove_folder(f"{root}/aside")
    remove_folder(f"{root}/aside")
    assert not FileSystems.exists(f"{root}/aside")


def test_a_file_system_that_is_not_installed_is_told(tmp_path):
    with pytest.raises((ValueError, BeamIOError), match="nowhere"):
        write_file("nowhere://bucket/x", b"1", str(tmp_path))
