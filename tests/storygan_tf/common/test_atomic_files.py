"""Files and folders appear with their complete content or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storygan_tf.common.atomic_files import atomic_folder, write_atomically

ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import DataError

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), bytes(5000))
except DataError as error:
    print(error)
"""


def test_a_file_is_written_with_its_folder(tmp_path):
    write_atomically(tmp_path / "new" / "file", b"content")
    write_atomically(tmp_path / "new" / "file", b"other")
    assert (tmp_path / "new" / "file").read_bytes() == b"other"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """A limit on the size of files fails like a disk that becomes full half-way."""
    (tmp_path / "file").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path / "file")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{tmp_path / 'file'}: could not be written (File too large)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_is_moved_into_place_when_it_is_complete(tmp_path):
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "new" / "folder") as temporary:
            assert not temporary.exists()
            temporary.mkdir()
            (temporary / content).touch()
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["folder", "second"]


def test_a_folder_stays_as_it_was_after_an_error(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder") as temporary:
        temporary.mkdir()
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "old"]
