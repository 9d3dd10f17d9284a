"""Pororo-SV's public layout: its strips, its byte strings, its two splits, and missing or damaged parts."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets import Reject, Story, load_frames, open_configured, open_dataset
from storygan_tf.data.datasets.dataset_report import examine_dataset
from storygan_tf.data.datasets.image_sources import seeded_bits
from storygan_tf.data.datasets.pororo import LABELS
from storygan_tf.data.datasets.story import BadFrameError
from storygan_tf.evaluation.external_frames import stored_test_ids

EPISODE = "Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1"


@pytest.fixture
def folder(tmp_path, pororo_folder):
    return pororo_folder(tmp_path / "pororo")


def read(folder, **settings):
    entries = list(open_configured(folder, DataConfig(**settings)).stories())
    return [e for e in entries if isinstance(e, Story)], [e for e in entries if isinstance(e, Reject)]


def change(path, edit):
    """Edits the dict, or the list of lists, that a pickled `.npy` file holds."""
    value = np.load(path, allow_pickle=True)
    value = value.item() if value.ndim == 0 else value
    edit(value)
    np.save(path, value if isinstance(value, np.ndarray) else np.array(value, dtype=object), allow_pickle=True)


def test_a_story_is_five_clips(folder):
    dataset = open_dataset(folder)
    assert (dataset.format, dataset.label_names) == ("pororo-sv", LABELS)
    stories, rejects = read(folder)
    assert rejects == []
    assert [story.split for story in stories] == ["train"] * 6 + ["val", "test"]
    assert [story.story_id for story in stories] == [f"pororo_{index:05d}" for index in range(8)]
    third = stories[2]
    assert [picture.file.relative_to(folder.resolve()).as_posix() for picture in third.images] == [
        f"{EPISODE}/{number}.png" for number in range(2, 7)
    ]
    assert third.labels == (("Crong",), ("Eddy",), ("Poby",), ("Petty",), ("Tongtong",))
    assert third.sentences[0] == "Clip 2 is caption 0."
    assert [sentence.partition(" is")[0] for sentence in third.sentences] == [f"Clip {n}" for n in range(2, 7)]
    frames = [np.asarray(Image.open(picture.file)) for picture in third.images]
    for picture, strip, png in zip(third.images, frames, load_frames(third), strict=True):
        assert picture.frame < len(strip) // 8
        assert png  # a PNG of 64x64
    assert len(load_frames(third)) == 5


def test_names_may_be_the_text_of_byte_strings(tmp_path, folder, pororo_folder):
    quoted = pororo_folder(tmp_path / "quoted", quoted=True)
    assert np.load(quoted / "img_cache4.npy")[0].startswith("b'")
    plain, other = read(folder)[0], read(quoted)[0]
    assert [story.sentences for story in plain] == [story.sentences for story in other]
    assert [[picture.frame for picture in story.images] for story in plain] == [
        [picture.frame for picture in story.images] for story in other
    ]


def test_names_may_be_objects_in_a_pickle(folder):
    before = read(folder)[0]
    for name in ("img_cache4.npy", "following_cache4.npy"):
        names = np.load(folder / name)
        np.save(folder / name, names.astype(object), allow_pickle=True)
    assert read(folder)[0] == before


def chosen(stories):
    return {story.story_id: [picture.frame for picture in story.images] for story in stories}


def test_frames_and_captions_are_drawn_by_the_seed_not_by_the_order(folder):
    stories, _ = read(folder, frame_seed=1)
    assert read(folder, frame_seed=1)[0] == stories
    for story in stories:
        names = [picture.file.relative_to(folder.resolve()).as_posix() for picture in story.images]
        assert [picture.draw for picture in story.images] == [
            seeded_bits(1, "frame", story.story_id, name) for name in names
        ]
    others, _ = read(folder, frame_seed=2)
    assert chosen(others) != chosen(stories)
    captions = {sentence for story in others for sentence in story.sentences if sentence.startswith("Clip 4")}
    assert captions == {f"Clip 4 is caption {turn}." for turn in range(3)}
    splits = np.load(folder / "train_seen_unseen_ids.npy", allow_pickle=True)
    splits[0] = splits[0][::-1]
    np.save(folder / "train_seen_unseen_ids.npy", splits, allow_pickle=True)
    turned, _ = read(folder, frame_seed=1)
    assert turned != stories
    assert sorted(turned, key=lambda story: story.story_id) == stories


def test_the_older_split_can_be_chosen(folder):
    stories, rejects = read(folder, pororo_split="train-test")
    assert rejects == []
    assert [(story.story_id[-1], story.split) for story in stories] == [
        *((str(index), "train") for index in range(1, 6)),
        *((str(index), "test") for index in (6, 8, 0)),
    ]
    assert open_configured(folder, DataConfig(pororo_split="train-test")).published is None


def test_stories_of_no_split_are_left_out_with_a_note(folder):
    dataset = open_dataset(folder)
    assert len(list(dataset.stories())) == 8
    assert dataset.notes == ["1 stories of img_cache4.npy are in no split of train_seen_unseen_ids.npy: left out"]


def test_the_sizes_of_the_published_splits_are_known(folder):
    assert open_dataset(folder).published == {"train": 10191, "val": 2334, "test": 2208}


def test_without_labels_there_are_no_label_names(folder):
    (folder / "labels.npy").unlink()
    assert open_dataset(folder).label_names is None
    stories, rejects = read(folder)
    assert rejects == []
    assert {story.labels for story in stories} == {None}


@pytest.mark.parametrize(
    ("file", "value", "reason", "where"),
    [
        ("descriptions.npy", None, "clip without an entry in descriptions.npy", f"descriptions.npy: {EPISODE}/4"),
        ("descriptions.npy", [], "no list of captions", f"descriptions.npy: {EPISODE}/4"),
        ("descriptions.npy", 7, "no list of captions", f"descriptions.npy: {EPISODE}/4"),
        ("descriptions.npy", [7], "caption is not a text", f"descriptions.npy: {EPISODE}/4"),
        ("descriptions.npy", [" \t"], "blank sentence", f"descriptions.npy: {EPISODE}/4"),
        ("descriptions.npy", ["half \ud83d"], "not UTF-8", f"descriptions.npy: {EPISODE}/4"),
        ("labels.npy", None, "no labels", f"labels.npy: {EPISODE}/4"),
        ("labels.npy", [1, 0], "labels are not 9 flags of 0 or 1", f"labels.npy: {EPISODE}/4"),
        ("labels.npy", [2] * 9, "labels are not 9 flags of 0 or 1", f"labels.npy: {EPISODE}/4"),
        ("labels.npy", [[1], [1, 2]], "labels are not 9 flags of 0 or 1", f"labels.npy: {EPISODE}/4"),
        ("labels.npy", "Pororo", "labels are not 9 flags of 0 or 1", f"labels.npy: {EPISODE}/4"),
    ],
)
def test_a_bad_entry_rejects_the_stories_that_need_it(folder, file, value, reason, where):
    def edit(entries):
        if value is None:
            del entries[f"{EPISODE}/4"]
        else:
            entries[f"{EPISODE}/4"] = value

    change(folder / file, edit)
    stories, rejects = read(folder)
    assert [story.story_id[-1] for story in stories] == ["5", "6", "7"]
    assert rejects == [Reject(f"pororo_{index:05d}", where, reason) for index in range(5)]


def test_a_missing_clip_rejects_its_stories(folder):
    (folder / EPISODE / "0.png").unlink()
    stories, rejects = read(folder)
    assert len(stories) == 7
    assert rejects == [Reject("pororo_00000", f"{EPISODE}/0.png", "missing image")]


def test_a_clip_outside_the_folder_is_refused(folder, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    names = np.load(folder / "img_cache4.npy").astype(object)
    names[0] = b"../outside.png"
    np.save(folder / "img_cache4.npy", names, allow_pickle=True)
    change(folder / "descriptions.npy", lambda entries: entries.update({"../outside": ["A caption."]}))
    change(folder / "labels.npy", lambda entries: entries.update({"../outside": [0] * 9}))
    assert read(folder)[1] == [Reject("pororo_00000", "../outside.png", "image path leaves the data folder")]


def test_a_strip_without_a_whole_square_is_reported_when_it_is_read(folder):
    Image.new("RGB", (8, 7)).save(folder / EPISODE / "0.png")
    with pytest.raises(BadFrameError, match=r"0\.png: strip lower than wide"):
        load_frames(read(folder)[0][0])
    assert examine_dataset(open_dataset(folder)).rejects[0].file == f"{EPISODE}/0.png"


def test_following_clips_of_another_number_reject_their_story(folder):
    following = [list(row) for row in np.load(folder / "following_cache4.npy")]
    following[3].pop()
    following[4] = 7
    rows = np.empty(len(following), dtype=object)
    rows[:] = following
    np.save(folder / "following_cache4.npy", rows, allow_pickle=True)
    assert [(reject.story_id[-1], reject.reason) for reject in read(folder)[1]] == [
        ("3", "3 clips follow, expected 4"),
        ("4", "clips are not file names"),
    ]


def test_positions_out_of_range_and_twice_are_rejected(folder):
    splits = np.load(folder / "train_seen_unseen_ids.npy", allow_pickle=True)
    splits[2] = np.array([7.0, 0, 99, -1])
    np.save(folder / "train_seen_unseen_ids.npy", splits, allow_pickle=True)
    stories, rejects = read(folder)
    assert len(stories) == 8
    assert [(reject.story_id, reject.reason) for reject in rejects] == [
        ("pororo_00000", "in the splits more than once"),
        ("pororo_00099", "no such position in img_cache4.npy"),
        ("pororo_-0001", "no such position in img_cache4.npy"),
    ]


def test_captions_are_mended_where_python_2_left_their_bytes(folder):
    texts = {
        0: "It\u2019s \u2014 a café.".encode().decode("latin1"),
        1: "It\x92s.",
        2: "café",
        3: b"caf\xc3\xa9",
        4: "雪だ",
    }
    for number, text in texts.items():
        change(folder / "descriptions.npy", lambda entries, n=number, t=text: entries.update({f"{EPISODE}/{n}": [t]}))
    assert read(folder)[0][0].sentences == ("It\u2019s \u2014 a café.", "It\u2019s.", "café", "café", "雪だ")


@pytest.mark.parametrize(
    "name", ["following_cache4.npy", "descriptions.npy", "train_seen_unseen_ids.npy", "img_cache4.npy"]
)
def test_a_missing_or_damaged_table_is_reported(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-30])
    with pytest.raises(DataError, match=rf"{name}: damaged"):
        read(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: found no such file; expected it, as part of .* pororo-sv"):
        list(open_dataset(folder, "pororo-sv").stories()) if name != "img_cache4.npy" else _read_without_index(folder)


def _read_without_index(folder):
    from storygan_tf.data.datasets.pororo import PororoSV

    list(PororoSV(folder).stories())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("train_seen_unseen_ids.npy", np.zeros([4, 2]), "expected two lists of positions"),
        ("train_seen_unseen_ids.npy", np.array([[0.5], [1]]), "found values that are not whole numbers"),
        ("train_seen_unseen_ids.npy", np.array([["a"], ["b"]]), "found values that are not whole numbers"),
        ("following_cache4.npy", np.array([["a"] * 4]), "found 1 stories, expected 9 as in img_cache4.npy"),
        ("img_cache4.npy", np.zeros(9), "clips are not file names, expected a list"),
        ("descriptions.npy", np.zeros(9), "holds an array of float64, expected a dict"),
    ],
)
def test_a_table_of_something_else_is_reported(folder, name, value, words):
    np.save(folder / name, value)
    with pytest.raises(DataError, match=rf"{name}: .*{words}"):
        read(folder)


@pytest.mark.parametrize("name", ["descriptions.npy", "labels.npy", "train_seen_unseen_ids.npy", "img_cache4.npy"])
def test_hostile_pickles_do_not_run(folder, tmp_path, name):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "touched"),)

    np.save(folder / name, np.array({"a": Hostile()}, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=rf"{name}: its pickle names (posix|nt)\.mkdir"):
        read(folder)
    assert not (tmp_path / "touched").exists()


def test_rejected_test_stories_keep_their_places(folder):
    splits = np.load(folder / "train_seen_unseen_ids.npy", allow_pickle=True)
    splits[0], splits[2] = splits[0][3:], np.array([7, 1, 0])
    np.save(folder / "train_seen_unseen_ids.npy", splits, allow_pickle=True)
    (folder / EPISODE / "1.png").unlink()
    assert [reject.story_id for reject in read(folder)[1]] == ["pororo_00001", "pororo_00000"]
    assert stored_test_ids(folder, DataConfig()) == ["pororo_00007", "pororo_00001", "pororo_00000"]


def test_unused_files_are_counted(folder):
    (folder / EPISODE / "0_mask.png").write_bytes(b"")
    (folder / EPISODE / "1_mask.png").write_bytes(b"")
    (folder / "descriptions.csv").write_text("a,b,c\n")
    (folder / "descriptions_vec.npy").write_bytes(b"")
    (folder / "README").write_text("?")
    assert examine_dataset(open_dataset(folder)).unused == {"*_mask.png": 2, "*.npy": 1, "README": 1}
