"""FlintstonesSV's public layout: its clips, its missing files, and stories with clips of another split."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets import Reject, Story, load_frames, open_configured, open_dataset
from storygan_tf.data.datasets.dataset_report import examine_dataset
from storygan_tf.data.datasets.flintstones import LABELS
from storygan_tf.data.datasets.image_sources import seeded_bits
from storygan_tf.evaluation.external_frames import stored_test_ids

SPLITS = "train-val-test_split.json"
ANNOTATIONS = "flintstones_annotations_v1-0.json"


def clip(number):
    return f"s_02_e_{1 + number // 8:02d}_shot_{100 * number:06d}_{100 * number + 74:06d}"


@pytest.fixture
def folder(tmp_path, flintstones_folder):
    return flintstones_folder(tmp_path / "flintstones")


def read(folder, **settings):
    entries = list(open_configured(folder, DataConfig(**settings)).stories())
    return [e for e in entries if isinstance(e, Story)], [e for e in entries if isinstance(e, Reject)]


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def numbers(stories):
    return [int(story.story_id.split("_")[5]) // 100 for story in stories]


def test_a_story_is_a_clip_and_the_four_that_follow(folder):
    dataset = open_dataset(folder)
    assert (dataset.format, dataset.label_names, dataset.published) == ("flintstones-sv", LABELS, None)
    stories, rejects = read(folder)
    assert rejects == []
    assert numbers(stories) == [0, 1, 2, 8, 10, 11, 3, 9]
    assert [story.split for story in stories] == ["train"] * 6 + ["val", "test"]
    second = stories[1]
    assert second.story_id == clip(1)
    assert second.sentences == tuple(f"Clip {number} is described." for number in range(1, 6))
    assert second.labels == tuple((LABELS[number],) for number in range(1, 6))
    for number, picture in enumerate(second.images, start=1):
        assert picture.file == (folder / f"video_frames_sampled/{clip(number)}.npy").resolve()
        assert 0 <= picture.frame < 2 + number % 3
    assert len(load_frames(second)) == 5


@pytest.mark.parametrize("missing", ["labels", "following"])
def test_optional_files_that_are_missing_are_computed(tmp_path, folder, flintstones_folder, missing):
    other = flintstones_folder(tmp_path / "other", **{missing: False})
    contents = [
        [(story.story_id, story.labels, story.sentences) for story in read(path)[0]] for path in (folder, other)
    ]
    assert contents[0] == contents[1]


def test_a_clip_is_followed_only_within_its_season_and_episode(tmp_path, flintstones_folder):
    folder = flintstones_folder(tmp_path / "data", following=False)
    stories, _ = read(folder)
    assert not {4, 5, 6, 7, 12, 13, 14, 15} & {*numbers(stories)}
    note = "8 of 16 clips begin no story: fewer than 4 follow them in their episode"
    assert open_dataset(folder).notes[0] == note


def test_following_clips_of_another_number_begin_no_story(folder):
    path = folder / "following_cache4.pkl"
    following = pickle.loads(path.read_bytes())
    following[clip(0)] = following[clip(0)][:3]
    following[clip(1)] = tuple(following[clip(1)])
    following[clip(2)] = np.array(following[clip(2)])
    following[clip(8)] = None
    path.write_bytes(pickle.dumps(following))
    stories, rejects = read(folder)
    assert rejects == []
    assert numbers(stories) == [1, 2, 10, 11, 3, 9]


def test_test_stories_that_hold_training_clips_are_reported_and_can_be_left_out(folder):
    dataset = open_dataset(folder)
    assert dataset.notes[1:] == [
        "1 of 1 val stories hold clips of the training split: data.drop_leaks=true or --drop-leaks leaves them out",
        "1 of 1 test stories hold clips of the training split: data.drop_leaks=true or --drop-leaks leaves them out",
    ]
    change(
        folder / SPLITS,
        lambda splits: splits.update(train=[clip(n) for n in range(9)], test=list(map(clip, range(9, 16)))),
    )
    stories, rejects = read(folder)
    assert [(number, story.split) for number, story in zip(numbers(stories), stories, strict=True)][-3:] == [
        (9, "test"),
        (10, "test"),
        (11, "test"),
    ]
    clean, rejects = read(folder, drop_leaks=True)
    assert rejects == []
    assert numbers(clean) == [0, 1, 2, 3, 8, 9, 10, 11]  # story 3 for validation was the only one that held any
    dropped = open_configured(folder, DataConfig(drop_leaks=True))
    assert dropped.notes[1:] == ["1 of 1 val stories hold clips of the training split: left out"]


def test_frames_are_drawn_by_the_seed(folder):
    first, second = ([[p.frame for p in s.images] for s in read(folder, frame_seed=seed)[0]] for seed in (0, 1))
    assert first != second
    for story in read(folder, frame_seed=1)[0]:
        names = [picture.file.stem for picture in story.images]
        assert [picture.draw for picture in story.images] == [
            seeded_bits(1, "frame", story.story_id, name) for name in names
        ]
    assert read(folder, frame_seed=1)[0] == read(folder, frame_seed=1)[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"globalID": "other"}, f"clip without an entry in {ANNOTATIONS}"),
        ({"description": None}, "description is not a text"),
        ({"description": "  "}, "blank sentence"),
        ({"description": "d" * 1001}, "sentence of more than 1000 characters"),
        ({"description": "half \ud83d"}, "not UTF-8"),
        ({"characters": "Fred"}, "characters are no list of {entityLabel}"),
        ({"characters": [{"name": "Fred"}]}, "characters are no list of {entityLabel}"),
    ],
)
def test_a_bad_annotation_rejects_the_stories_that_need_it(tmp_path, flintstones_folder, values, reason):
    folder = flintstones_folder(tmp_path / "data", labels=False)
    change(folder / ANNOTATIONS, lambda entries: entries[0].update(values))
    stories, rejects = read(folder)
    assert numbers(stories) == [1, 2, 8, 10, 11, 3, 9]
    assert rejects == [Reject(clip(0), f"{ANNOTATIONS}: {clip(0)}", reason)]


@pytest.mark.parametrize(
    ("flags", "reason"), [(None, "no labels"), ([1], "labels are not 7 flags of 0 or 1"), (b"1", "labels are not 7 fl")]
)
def test_bad_flags_reject_their_stories(folder, flags, reason):
    path = folder / "labels.pkl"
    labels = pickle.loads(path.read_bytes())
    labels[clip(0)] = flags
    path.write_bytes(pickle.dumps(labels))
    (reject,) = read(folder)[1]
    assert (reject.story_id, reject.file) == (clip(0), f"labels.pkl: {clip(0)}")
    assert reason in reject.reason


def test_missing_and_bad_clips_are_reported_with_their_files(folder):
    (folder / f"video_frames_sampled/{clip(0)}.npy").unlink()
    np.save(folder / f"video_frames_sampled/{clip(11)}.npy", np.zeros([3, 8, 8], np.uint8))
    findings = examine_dataset(open_dataset(folder))
    assert findings.total == 8
    assert Reject(clip(0), f"video_frames_sampled/{clip(0)}.npy", "missing image") in findings.rejects
    bad = [reject for reject in findings.rejects if "uint8 [3, 8, 8]" in reject.reason]
    assert {reject.file for reject in bad} == {f"video_frames_sampled/{clip(11)}.npy"}
    assert findings.accepted + len(findings.rejects) == findings.total


@pytest.mark.parametrize("name", ["video_frames", "video_frames_sampled_4x"])
def test_clips_may_lie_in_another_folder(folder, name):
    (folder / "video_frames_sampled").rename(folder / name)
    stories, rejects = read(folder)
    assert (len(stories), rejects) == (8, [])
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(DataError, match="found no folder of clips, expected video_frames_sampled or video_frames or"):
        read(folder)


def test_a_clips_name_may_not_lead_out_of_the_folder(folder):
    outside = "../../outside"
    np.save(folder.parent / "outside.npy", np.zeros([1, 8, 8, 3], np.uint8))
    change(folder / SPLITS, lambda splits: splits["test"].append(outside))
    change(folder / ANNOTATIONS, lambda entries: entries.append({"globalID": outside, "description": "a"}))
    for name, value in (("following_cache4.pkl", [clip(n) for n in range(4)]), ("labels.pkl", [0] * 7)):
        values = pickle.loads((folder / name).read_bytes())
        (folder / name).write_bytes(pickle.dumps(values | {outside: value}))
    (reject,) = read(folder)[1]
    assert (reject.story_id, reject.reason) == (outside, "image path leaves the data folder")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (SPLITS, b"{", "damaged, or not JSON"),
        (SPLITS, b"\xff\xfe", "damaged, or not JSON"),
        (SPLITS, b'{"train": []}', "expected an object of three lists of clips: train, val, test"),
        (SPLITS, b'{"train": [], "val": [], "test": [1]}', "expected an object of three lists of clips"),
        (ANNOTATIONS, b"{}", "holds a dict, expected a list of clips"),
        (ANNOTATIONS, b"[" * 100_000, "damaged, or not JSON"),
        ("labels.pkl", b"", "damaged, or no pickle"),
        ("labels.pkl", pickle.dumps([1]), "holds a list, expected a dict"),
        ("following_cache4.pkl", pickle.dumps({}), "holds no clip; remove it to have it computed"),
    ],
)
def test_a_bad_table_is_reported(folder, name, content, words):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {words}"):
        read(folder)


def test_a_missing_annotation_file_is_reported(folder):
    (folder / ANNOTATIONS).unlink()
    with pytest.raises(DataError, match=f"{ANNOTATIONS}: found no such file; expected it"):
        read(folder)


@pytest.mark.parametrize("name", ["labels.pkl", "following_cache4.pkl"])
def test_hostile_pickles_do_not_run(folder, tmp_path, name):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "touched"),)

    (folder / name).write_bytes(pickle.dumps({clip(0): Hostile()}))
    with pytest.raises(DataError, match=rf"{name}: its pickle names (posix|nt)\.mkdir"):
        read(folder)
    assert not (tmp_path / "touched").exists()


def test_rejected_test_stories_keep_their_places(folder):
    change(folder / SPLITS, lambda splits: splits.update(test=[clip(9), clip(8), clip(10)], train=[clip(0)]))
    (folder / f"video_frames_sampled/{clip(8)}.npy").unlink()
    assert [reject.story_id for reject in read(folder)[1]] == [clip(8)]
    assert stored_test_ids(folder, DataConfig()) == [clip(9), clip(8), clip(10)]


def test_a_clip_in_two_splits_is_rejected_once(folder):
    change(folder / SPLITS, lambda splits: splits["test"].append(clip(0)))
    stories, rejects = read(folder)
    assert len(stories) == 8
    assert rejects == [Reject(clip(0), SPLITS, "in the splits more than once")]
