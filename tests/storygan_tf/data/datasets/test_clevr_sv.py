"""CLEVR-SV's public layout: vectors, gaps, splits, and pickles, whose code must not run."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.datasets import Reject, Story, open_dataset
from storygan_tf.data.datasets.restricted_unpickler import load_dict

ITEMS = (
    SceneObject("cube", "red", "rubber", "small", *clevr.place(-3, 2)),
    SceneObject("sphere", "cyan", "metal", "large", *clevr.place(0, 0)),
    SceneObject("cylinder", "gray", "metal", "large", *clevr.place(4, -1)),
    SceneObject("cube", "yellow", "rubber", "large", *clevr.place(1, 5)),
)


def frames_of(index, items=ITEMS):
    return {f"CLEVR_new_{index:06d}_{k}.png": clevr.to_vector(items[:k]) for k in range(1, 5)}


def write(folder, vectors, images=None):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    np.save(folder / "CLEVR_dict.npy", np.array(vectors, dtype=object), allow_pickle=True)
    for name in vectors if images is None else images:
        Image.new("RGBA", (32, 24), (128, 128, 128, 255)).save(folder / "images" / name)
    return folder


def read(folder):
    entries = list(open_dataset(folder, "clevr-sv").stories())
    return [e for e in entries if isinstance(e, Story)], [e for e in entries if isinstance(e, Reject)]


def test_a_story_is_read_from_its_vectors(tmp_path):
    write(tmp_path, frames_of(17))
    (story,), rejects = read(tmp_path)
    assert rejects == []
    assert (story.story_id, story.split) == ("CLEVR_new_000017", "train")
    assert [path.name for path in story.images] == [f"CLEVR_new_000017_{k}.png" for k in (1, 2, 3, 4)]
    assert story.labels[0] == ("cube", "red", "rubber", "small")
    assert story.labels[1] == ("cube", "sphere", "red", "cyan", "rubber", "metal", "large", "small")
    assert [len(frame) for frame in story.objects] == [1, 2, 3, 4]
    assert open_dataset(tmp_path).label_names == clevr.LABELS
    assert open_dataset(tmp_path).format == "clevr-sv"
    for sentence, words in zip(
        story.sentences,
        (
            "red three left and two back",
            "cyan centred and midway",
            "gray four right and one forward",
            "yellow one right",
        ),
        strict=True,
    ):
        assert set(words.split()) <= set(sentence.replace(",", "").replace(".", "").split())


def test_the_middle_of_the_table_is_the_middle_of_the_frame():
    flat = clevr.describe(SceneObject("sphere", "red", "metal", "large", 0.0, 0.0))
    assert flat["x"] == 32.0
    assert 26 < flat["y"] < 32  # its centre is above the table
    right = clevr.describe(SceneObject("sphere", "red", "metal", "large", *clevr.place(4, 0)))
    back = clevr.describe(SceneObject("sphere", "red", "metal", "large", *clevr.place(0, 4)))
    assert right["x"] > 40
    assert abs(right["y"] - flat["y"]) < 0.01
    assert back["x"] == 32.0
    assert back["y"] < flat["y"] - 4


def test_vectors_round_trip():
    vector = clevr.to_vector(ITEMS)
    assert vector.shape == (75,)
    assert vector[:18].tolist()[:15] == [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert np.allclose(vector[72:], [0.656, 0.754, 0], atol=2e-3)
    assert clevr.from_vector(vector) == ITEMS


def test_the_published_split_is_by_number(tmp_path):
    write(tmp_path, frames_of(9999) | frames_of(10000))
    assert [story.split for story in read(tmp_path)[0]] == ["train", "test"]


def test_gaps_are_rejected_and_the_other_stories_read(tmp_path):
    broken = frames_of(2)
    del broken["CLEVR_new_000002_2.png"]
    vectors = frames_of(0) | frames_of(1) | broken
    images = [*frames_of(0), *list(frames_of(1))[:3], *frames_of(2), *frames_of(3), "CLEVR_new_000000_1_mask.png"]
    write(tmp_path, vectors, images)
    stories, rejects = read(tmp_path)
    assert [story.story_id for story in stories] == ["CLEVR_new_000000"]
    assert [(reject.story_id, reject.reason) for reject in rejects] == [
        ("CLEVR_new_000001", "missing image"),
        ("CLEVR_new_000002", "frames without entries in CLEVR_dict.npy"),
        ("CLEVR_new_000003", "images without entries in CLEVR_dict.npy"),
    ]
    assert rejects[0].file == "images/CLEVR_new_000001_4.png"


def two_colours(vector):
    vector[5] = 1


def not_finite(vector):
    vector[15] = np.inf


def one_object_more(vector):
    vector[18:36] = vector[:18]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (two_colours, "does not name one colour"),
        (not_finite, "not finite"),
        (one_object_more, "another number of objects"),
    ],
)
def test_a_spoilt_vector_rejects_its_story(tmp_path, spoil, reason):
    vectors = frames_of(0) | frames_of(1)
    spoil(vectors["CLEVR_new_000001_1.png"])
    write(tmp_path, vectors)
    stories, rejects = read(tmp_path)
    assert [story.story_id for story in stories] == ["CLEVR_new_000000"]
    assert reason in rejects[0].reason


@pytest.mark.parametrize("value", [np.zeros(74), np.array(["a"] * 75), "text", None, np.zeros((75, 1))])
def test_a_value_that_is_no_vector_rejects_its_story(tmp_path, value):
    write(tmp_path, frames_of(0) | frames_of(1) | {"CLEVR_new_000001_3.png": value})
    stories, rejects = read(tmp_path)
    assert len(stories) == 1
    assert "expected a vector of 75 numbers" in rejects[0].reason


def test_a_linked_image_outside_the_folder_is_refused(tmp_path):
    folder = write(tmp_path / "data", frames_of(0))
    image = folder / "images" / "CLEVR_new_000000_2.png"
    image.rename(tmp_path / "outside.png")
    image.symlink_to(tmp_path / "outside.png")
    stories, rejects = read(folder)
    assert stories == []
    assert rejects[0].reason == "image path leaves the data folder"


class Hostile:
    """Creates a folder when it is unpickled without restrictions."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_pickles_do_not_run(tmp_path, protocol):
    folder = write(tmp_path / "data", frames_of(0))
    header = (folder / "CLEVR_dict.npy").read_bytes()[:128].partition(b"\n")[0] + b"\n"
    hostile = pickle.dumps({"CLEVR_new_000000_1.png": Hostile(tmp_path / "touched")}, protocol=protocol)
    (folder / "CLEVR_dict.npy").write_bytes(header + hostile)
    with pytest.raises(DataError, match=r"CLEVR_dict\.npy: its pickle names (posix|os|nt)\.mkdir"):
        list(open_dataset(folder).stories())
    assert not (tmp_path / "touched").exists()
    pickle.loads(hostile)
    assert (tmp_path / "touched").exists(), "the pickle was harmless, the test proves nothing"


@pytest.mark.parametrize("name", ["builtins\neval", "numpy\nload", "numpy.core.multiarray\nfromfile", "os\nsystem"])
def test_no_other_name_is_accepted(tmp_path, name):
    np.save(tmp_path / "x.npy", np.array({}, dtype=object), allow_pickle=True)
    header = (tmp_path / "x.npy").read_bytes().partition(b"\n")[0] + b"\n"
    (tmp_path / "x.npy").write_bytes(header + f"c{name}\n(S'1'\ntR.".encode())
    with pytest.raises(DataError, match=name.replace("\n", r"\.")):
        load_dict(tmp_path / "x.npy")


def test_dicts_of_python_2_are_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array({}, dtype=object), allow_pickle=True)
    header = (tmp_path / "x.npy").read_bytes().partition(b"\n")[0] + b"\n"
    # Protocol 2 as Python 2 wrote it: the key a byte string, the value a list of a float and an int.
    (tmp_path / "x.npy").write_bytes(
        header + b"\x80\x02}q\x00U\x04caf\xe9q\x01]q\x02(G?\xf0\x00\x00\x00\x00\x00\x00K\x02es."
    )
    assert load_dict(tmp_path / "x.npy") == {"caf\xe9": [1.0, 2]}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_numbers_and_bytes_are_read_in_every_protocol(tmp_path, protocol):
    np.save(tmp_path / "x.npy", np.array({}, dtype=object), allow_pickle=True)
    header = (tmp_path / "x.npy").read_bytes().partition(b"\n")[0] + b"\n"
    value = np.array({b"key": np.arange(3.0), "scalar": np.float64(2)}, dtype=object)
    (tmp_path / "x.npy").write_bytes(header + pickle.dumps(value, protocol=protocol))
    loaded = load_dict(tmp_path / "x.npy")
    assert loaded[b"key"].tolist() == [0, 1, 2]
    assert loaded["scalar"] == 2


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00v\x00", b"\x93NUMPY\x09\x00v\x00"])
def test_a_damaged_file_is_reported(tmp_path, content):
    (tmp_path / "CLEVR_dict.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"CLEVR_dict\.npy: damaged"):
        list(open_dataset(tmp_path).stories())


def test_a_truncated_file_is_reported(tmp_path):
    path = write(tmp_path, frames_of(0)) / "CLEVR_dict.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        list(open_dataset(tmp_path).stories())


def test_a_plain_array_and_another_kind_of_object_are_reported(tmp_path):
    np.save(tmp_path / "CLEVR_dict.npy", np.zeros(3))
    with pytest.raises(DataError, match="an array of float64"):
        list(open_dataset(tmp_path).stories())
    np.save(tmp_path / "CLEVR_dict.npy", np.array([1, "a"], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="expected a dict"):
        list(open_dataset(tmp_path).stories())


def test_a_dict_of_other_things_is_reported(tmp_path):
    write(tmp_path, {"cat.png": np.zeros(75)}, images=[])
    with pytest.raises(DataError, match=r"found no entry with a name like 'CLEVR_new_000000_1\.png'"):
        list(open_dataset(tmp_path).stories())


def a_pipe(path):
    os.mkfifo(path)


def a_loop(path):
    path.symlink_to(path)


def a_link_outside(path):
    (path.parents[2] / "outside.png").write_bytes(b"")
    path.symlink_to(path.parents[2] / "outside.png")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_pipe, "missing image"),
        (a_loop, "image path cannot be followed"),
        (a_link_outside, "image path leaves the data folder"),
    ],
)
def test_a_path_that_is_no_file_in_the_folder_rejects_its_story(tmp_path, make, reason):
    folder = write(tmp_path / "data", {**frames_of(1), **frames_of(2)})
    path = folder / "images/CLEVR_new_000001_3.png"
    path.unlink()
    make(path)
    (story,), rejects = read(folder)
    assert story.story_id == "CLEVR_new_000002"
    assert rejects == [Reject("CLEVR_new_000001", "images/CLEVR_new_000001_3.png", reason)]
