"""Files of Beam workers: complete or not there, on any of Beam's file systems."""

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
    """An object store in memory: without folders; an object appears when its file is closed."""

    objects: dict[str, bytes] = {}  # noqa: RUF012 - shared by all instances, which Beam creates anew.

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


def test_written_records_are_read(root):
    path = f"{root}/Split-train/data.gz"
    assert write_records(path, iter(CONTENTS), f"{root}/scratch") == 3
    assert list(read_records(path)) == CONTENTS
    assert gzip.decompress(read_file(path)).startswith(b"\x03\0\0\0\0\0\0\0")


def test_a_file_is_replaced_and_listed(root):
    for content in (b"old", b"new"):
        write_file(f"{root}/x.json", content, f"{root}/scratch")
    write_file(f"{root}/y.json", b"", f"{root}/scratch")
    assert read_file(f"{root}/x.json") == b"new"
    assert list_files(f"{root}/*.json") == [f"{root}/x.json", f"{root}/y.json"]


def test_no_record_no_file(root):
    assert write_records(f"{root}/data.gz", [], f"{root}/scratch") == 0
    assert list_files(f"{root}/*.gz") == []


def test_a_failed_write_keeps_the_previous_file(root):
    def contents():
        yield b"half"
        raise OSError("the worker's fault")

    write_records(f"{root}/data.gz", CONTENTS, f"{root}/scratch")
    with pytest.raises(OSError, match="the worker's fault"):
        write_records(f"{root}/data.gz", contents(), f"{root}/scratch")
    assert list(read_records(f"{root}/data.gz")) == CONTENTS
    assert [path.name for path in Path(root).rglob("*") if path.is_file()] in (["data.gz"], [])


def test_a_folder_is_removed_with_its_content(root):
    write_file(f"{root}/scratch/deep/x", b"1", f"{root}/scratch")
    remove_folder(f"{root}/scratch")
    remove_folder(f"{root}/scratch")
    assert not FileSystems.exists(f"{root}/scratch")


def test_a_file_system_that_is_not_installed_is_an_error(tmp_path):
    with pytest.raises((ValueError, BeamIOError), match="nowhere"):
        write_file("nowhere://bucket/x", b"1", str(tmp_path))
