"""The story folder: valid lines are read, each invalid one is rejected with its reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets import Reject, Story, open_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory, story_folder):
    """Returns a valid story folder, to be read or copied, not changed."""
    return story_folder(tmp_path_factory.mktemp("whole") / "data", train=3, test=1)


@pytest.fixture
def folder(whole, tmp_path):
    """Returns a copy of the valid story folder."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


def read(folder, **options):
    entries = list(open_dataset(folder, **options).stories())
    return [e for e in entries if isinstance(e, Story)], [e for e in entries if isinstance(e, Reject)]


def append(folder, line):
    with (folder / "stories.jsonl").open("ab") as file:
        file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")


def test_a_good_folder_is_read_whole(folder):
    stories, rejects = read(folder)
    assert rejects == []
    assert [story.story_id for story in stories] == ["s000", "s001", "s002", "s003"]
    assert [story.split for story in stories] == ["train", "train", "train", "test"]
    assert stories[0].images[1] == (folder / "images/s000_2.png").resolve()
    assert len(stories[0].sentences) == len(stories[0].labels) == len(stories[0].objects) == 4
    assert len(stories[0].objects[3]) == 4
    assert open_dataset(folder).label_names == ("blue", "green", "red", "yellow")
    assert open_dataset(folder).format == "story-folder"


def test_without_labels_there_are_no_label_names(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", labels=False, objects=False, split=False)
    stories, rejects = read(folder)
    assert open_dataset(folder).label_names is None
    assert rejects == []
    assert {(story.split, story.labels, story.objects) for story in stories} == {(None, None, None)}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"story_id": None}, "no story_id"),
        ({"story_id": 7}, "story_id is not a text"),
        ({"story_id": "  "}, "story_id is blank"),
        ({"story_id": "\ud800"}, "story_id is not a text"),
        ({"story_id": "s001"}, "duplicate story_id"),
        ({"sentences": None}, "no sentences"),
        ({"sentences": "A red square."}, "sentences is not a list of texts"),
        ({"sentences": ["a", "b", 3, "d"]}, "sentences is not a list of texts"),
        ({"sentences": ["a", "b", "half \ud83d", "d"]}, "sentences is not a list of texts"),
        ({"sentences": [], "images": []}, "no sentences"),
        ({"sentences": ["a", "b", "c", "d", "e"]}, "5 sentences for 4 images; they must be as many"),
        ({"sentences": ["a", "b", "c"]}, "3 sentences for 4 images; they must be as many"),
        ({"sentences": ["a", " \t", "c", "d"]}, "blank sentence"),
        ({"sentences": ["a", "b", "c", "d" * 1001]}, "sentence of more than 1000 characters"),
        ({"images": None}, "no images"),
        ({"images": {"1": "images/s003_1.png"}}, "images is not a list of texts"),
        ({"split": "trian"}, "split is none of train, val, test"),
        ({"split": ["train"]}, "split is none of train, val, test"),
        ({"labels": ["red", "red", "red", "red"]}, "labels is no list of lists"),
        ({"labels": [["red"]]}, "labels for another number of frames"),
        ({"labels": [[1], [1], [1], [1]]}, "labels are not texts"),
        ({"labels": None}, "no labels, which other stories have"),
        ({"objects": None}, "no objects, which other stories have"),
        ({"objects": [[], [], [], [{"shape": "cube"}]]}, "objects are not {shape, colour, material, size, x, y}"),
    ],
)
def test_a_bad_value_rejects_its_story(folder, story_lines, values, reason):
    story_lines(folder).edit(3, **values)
    stories, rejects = read(folder)
    assert [story.story_id for story in stories] == ["s000", "s001", "s002"]
    assert [reject.reason for reject in rejects] == [reason]
    assert rejects[0].file.startswith("stories.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "not JSON"),
        (b'{"story_id": "caf\xe9"}', "not UTF-8"),
        (b"[1, 2]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 10_000, "not a JSON object"),
    ],
)
def test_a_line_that_is_no_story_is_reported_by_its_number(folder, line, reason):
    append(folder, line)
    stories, rejects = read(folder)
    assert len(stories) == 4
    if reason == "not a JSON object" and line.startswith(b"9"):  # newer Pythons refuse such a number while parsing
        assert rejects[0].reason in ("not JSON", "not a JSON object")
    else:
        assert rejects == [Reject("line 5", "stories.jsonl:5", reason)]


def test_blank_lines_and_a_byte_order_mark_are_no_fault(folder):
    path = folder / "stories.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n  \n")
    stories, rejects = read(folder)
    assert (len(stories), rejects) == (4, [])


def test_not_a_number_is_no_coordinate(folder, story_lines):
    objects = story_lines(folder).read()[0]["objects"]
    objects[0][0]["x"] = float("nan")
    story_lines(folder).edit(0, objects=objects)
    _, rejects = read(folder)
    assert [reject.story_id for reject in rejects] == ["s000"]


@pytest.mark.parametrize(
    "name", ["../outside.png", "/etc/hostname", "images/../../outside.png", "linked.png", "linked_folder/outside.png"]
)
def test_an_image_path_may_not_leave_the_folder(tmp_path, folder, story_lines, name):
    outside = tmp_path / "outside.png"
    outside.write_bytes((folder / "images/s000_1.png").read_bytes())
    (folder / "linked.png").symlink_to(outside)
    (folder / "linked_folder").symlink_to(tmp_path)
    images = story_lines(folder).edit(0)["images"]
    story_lines(folder).edit(0, images=[name, *images[1:]])
    stories, rejects = read(folder)
    assert len(stories) == 3
    assert rejects == [Reject("s000", name, "image path leaves the data folder")]


def test_a_link_that_stays_in_the_folder_is_followed(folder, story_lines):
    (folder / "linked.png").symlink_to(folder / "images/s000_1.png")
    images = story_lines(folder).edit(0)["images"]
    story_lines(folder).edit(0, images=["linked.png", *images[1:]])
    assert read(folder)[1] == []


@pytest.mark.parametrize("name", ["images/none.png", "images", "x" * 300, "nul\0.png", "circle.png"])
def test_a_missing_image_rejects_its_story(folder, story_lines, name):
    (folder / "circle.png").symlink_to(folder / "circle.png")
    images = story_lines(folder).edit(1)["images"]
    story_lines(folder).edit(1, images=[*images[:3], name])
    stories, rejects = read(folder)
    assert len(stories) == 3
    assert [(reject.story_id, reject.file) for reject in rejects] == [("s001", name)]
    assert rejects[0].reason in ("missing image", "image path cannot be followed")


def test_the_longest_sentence_is_the_callers(folder):
    stories, rejects = read(folder, max_sentence_length=10)
    assert stories == []
    assert {reject.reason for reject in rejects} == {"sentence of more than 10 characters"}


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"nothing in it; expected stories\.jsonl .* or CLEVR_dict\.npy"):
        open_dataset(tmp_path)


def test_a_missing_folder_and_a_file_are_reported(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="found a file"):
        open_dataset(tmp_path / "file")


def test_an_unknown_format_is_reported(tmp_path):
    with pytest.raises(DataError, match="did you mean 'story-folder'"):
        open_dataset(tmp_path, "story_folder")


def test_a_format_that_the_folder_does_not_have_is_reported(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=1, test=1)
    with pytest.raises(DataError, match=r"found images, stories\.jsonl; expected CLEVR_dict\.npy \(layout clevr-sv\)"):
        open_dataset(folder, "clevr-sv")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read anything")
def test_an_unreadable_file_is_reported(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=1, test=1)
    (folder / "stories.jsonl").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        list(open_dataset(folder).stories())
