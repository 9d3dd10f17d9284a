"""The report on a data set: what its splits have in common, and files that no story uses."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from storygan_tf.data.datasets import open_dataset
from storygan_tf.data.datasets.dataset_report import examine_dataset
from storygan_tf.data.datasets.split_overlap import Overlap, OverlapCounter


@pytest.fixture
def folder(tmp_path, story_folder):
    return story_folder(tmp_path / "data", train=4, test=3)


def overlap_of(folder, **options):
    return examine_dataset(open_dataset(folder), **options).overlaps


def test_splits_that_share_nothing_have_an_empty_overlap(folder):
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    assert overlap_of(folder) == [Overlap("test", "train", 3, 0, 0, 0)]


def test_shared_pictures_and_sentences_are_counted(folder, story_lines):
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    lines = story_lines(folder)
    # Story 4 has story 0's sentences, but for spaces; story 5 has story 1's pictures under other names, story 6 one.
    lines.edit(4, sentences=[f" {sentence}  " for sentence in lines.read()[0]["sentences"]])
    for frame in (1, 2, 3, 4):
        shutil.copy(folder / f"images/s001_{frame}.png", folder / f"images/s005_{frame}.png")
    shutil.copy(folder / "images/s002_4.png", folder / "images/s006_1.png")
    assert overlap_of(folder) == [Overlap("test", "train", 3, same_pictures=1, same_sentences=1, shared_picture=2)]


def test_stories_without_a_split_are_split_as_a_run_splits_them(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=8, test=8, split=False)
    (overlap,) = overlap_of(folder, test_fraction=0.5)
    assert (overlap.split, overlap.other) == ("test", "train")
    assert 0 < overlap.stories < 16
    assert overlap_of(folder, test_fraction=0.0) == []


def test_each_pair_of_splits_is_reported():
    counter = OverlapCounter()
    for split in ("test", "train", "val", "test"):
        counter.add(split, [b"a"], ["one"])
    assert list(counter.overlaps()) == [
        Overlap("val", "train", 1, 1, 1, 1),
        Overlap("test", "train", 2, 2, 2, 2),
        Overlap("test", "val", 2, 2, 2, 2),
    ]


def test_stories_that_are_rejected_do_not_count(folder):
    (folder / "images/s000_1.png").write_bytes(b"")
    (folder / "images/s004_1.png").write_bytes(b"")
    (overlap,) = overlap_of(folder)
    assert overlap.stories == 2


def test_clips_that_stories_share_are_reported(tmp_path, pororo_folder, flintstones_folder):
    # Story n of Pororo has clips n to n + 4; the validation and test stories come last.
    assert [overlap.shared_picture for overlap in overlap_of(pororo_folder(tmp_path / "pororo"))] == [1, 1, 1]
    # Flintstones' stories 3 and 9 have clips of training stories, but no two stories are equal.
    overlaps = overlap_of(flintstones_folder(tmp_path / "flintstones"))
    assert [(o.same_pictures, o.shared_picture) for o in overlaps] == [(0, 1), (0, 1), (0, 0)]


def test_files_that_no_story_uses_are_counted_by_kind(folder):
    for name in ("images/s000_1_mask.png", "images/s000_2_mask.png", "images/extra.png", "notes.txt", "README"):
        (folder / name).write_bytes(b"")
    (folder / "SOURCE").write_text("")
    assert examine_dataset(open_dataset(folder)).unused == {"*_mask.png": 2, "*.png": 1, "*.txt": 1, "README": 1}
