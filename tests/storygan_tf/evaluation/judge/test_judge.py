"""A judge is the same after it was saved, needs only TensorFlow, and is refused if it was changed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from storygan_tf.common.errors import ModelError
from storygan_tf.evaluation.judge.judge import load_judge, read_judge, save_judge, save_missing_reason

ASK = """
import json, sys
import numpy as np, tensorflow as tf
judge = tf.saved_model.load(sys.argv[1])
frames = np.load(sys.argv[2])
logits, features = judge.labels(frames)
places = np.full((len(frames), 2), 30, np.float32)
np.savez(sys.argv[3], logits=logits, features=features, objects=judge.objects(frames, places))
assert "storygan_tf" not in sys.modules
"""


@pytest.fixture
def saved(judge, tmp_path):
    save_judge(judge, tmp_path / "judge")
    return tmp_path / "judge"


@pytest.fixture
def places(others):
    """Places of some objects with their frames, counted over all stories."""
    items = [(3 * story + 2, item) for story in range(40) for item in others.objects[story][2]]
    return np.array([(item["x"], item["y"]) for _, item in items], np.float32), np.array([index for index, _ in items])


def test_it_is_the_same_after_it_was_saved(quick_judge, others, places, tmp_path):
    judge = quick_judge()
    save_judge(judge, tmp_path / "judge")
    loaded = load_judge(tmp_path / "judge")
    for name in ("description", "sha256", "label_names", "attributes", "held_out"):
        assert getattr(loaded, name) == getattr(judge, name)
    assert list(loaded.attributes) == list(judge.attributes)
    frames = others.images.reshape(-1, 64, 64, 3)
    for found, expected in zip(loaded.judge_frames(frames), judge.judge_frames(frames), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    classified = loaded.classify_objects(frames, *places)
    for name, expected in judge.classify_objects(frames, *places).items():
        np.testing.assert_array_equal(classified[name], expected)


def test_judge_json_keeps_its_keys(judge):
    values = json.loads(judge.to_json())
    assert values.keys() == {"what", "label_names", "attributes", "held_out", "sha256"}
    assert values["what"] == judge.description


def test_a_loaded_judge_can_be_saved_elsewhere(saved, tmp_path, others):
    first = load_judge(saved)
    save_judge(first, tmp_path / "below" / "copy")
    second = load_judge(tmp_path / "below" / "copy")
    assert second.sha256 == first.sha256
    np.testing.assert_allclose(
        second.judge_frames(others.images[0])[1], first.judge_frames(others.images[0])[1], rtol=1e-5
    )


def test_a_judge_without_places_is_the_same_after_it_was_saved(quick_judge, tmp_path, others):
    judge = quick_judge(objects=False)
    save_judge(judge, tmp_path / "judge")
    loaded = load_judge(tmp_path / "judge")
    assert (loaded.sha256, loaded.attributes) == (judge.sha256, {})
    np.testing.assert_allclose(
        loaded.judge_frames(others.images[0])[1], judge.judge_frames(others.images[0])[1], rtol=1e-5
    )


def test_it_runs_on_tensorflow_alone(judge, saved, others, tmp_path):
    frames = others.images[:3, 2]
    np.save(tmp_path / "frames.npy", frames)
    answers = tmp_path / "answers.npz"
    subprocess.run([sys.executable, "-c", ASK, saved, tmp_path / "frames.npy", answers], cwd=tmp_path, check=True)
    labels, features = judge.judge_frames(frames)
    with np.load(answers) as found:
        np.testing.assert_array_equal(found["logits"] > 0, labels)
        np.testing.assert_allclose(found["features"], features, rtol=1e-4, atol=1e-5)
        assert found["objects"].shape == (3, 2 + 3 + 2)


def test_a_folder_is_replaced_as_a_whole(saved, judge, tmp_path):
    (saved / "left over").write_text("")
    save_judge(judge, saved)
    assert not (saved / "left over").exists()
    save_missing_reason("no labels", saved)
    assert [path.name for path in saved.iterdir()] == ["absent.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["judge"]


def test_a_frame_is_judged_alike_alone_and_among_others(judge, others, places):
    frames = np.concatenate([others.images.reshape(-1, 64, 64, 3)] * 2)
    labels, features = judge.judge_frames(frames)
    assert (labels.shape, labels.dtype, features.shape) == ((240, 4), bool, (240, 96))
    alone = judge.judge_frames(frames[133:134])
    np.testing.assert_array_equal(alone[0][0], labels[133])
    np.testing.assert_allclose(alone[1][0], features[133], rtol=1e-4, atol=1e-5)
    points, frame_of = places
    many = judge.classify_objects(frames, np.concatenate([points, points]), np.concatenate([frame_of, frame_of + 120]))
    for classified in many.values():
        assert (classified.shape, classified.dtype) == ((240,), np.int64)
        np.testing.assert_array_equal(classified[:120], classified[120:])
    assert judge.classify_objects(frames, points[77:78], frame_of[77:78]) == {
        name: classified[77] for name, classified in many.items()
    }


def test_no_frames_have_no_results(judge):
    none = np.zeros((0, 64, 64, 3), np.uint8)
    labels, features = judge.judge_frames(none)
    assert (labels.shape, features.shape) == ((0, 4), (0, 96))
    classified = judge.classify_objects(none, np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    assert {name: indices.shape for name, indices in classified.items()} == {
        "shape": (0,),
        "colour": (0,),
        "size": (0,),
    }


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8)],
)
def test_frames_of_another_type_or_shape_are_refused(judge, frames):
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 64, 64, 3\]"):
        judge.judge_frames(frames)
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 64, 64, 3\]"):
        judge.classify_objects(frames, np.zeros((1, 2), np.float32), np.zeros(1, np.int64))


def test_another_number_of_places_than_frames_is_an_error(judge, others):
    with pytest.raises(ValueError, match=r"found \[2, 2\], expected \[3, 2\]"):
        judge.classify_objects(others.images[0], np.zeros((2, 2), np.float32), np.zeros(3, np.int64))


def spoil(name, change):
    def spoil(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoil


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "judge.json").unlink(), "FileNotFoundError"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "SavedModel"),
        (spoil("judge.json", lambda content: content[:-20]), "JSONDecodeError"),
        (spoil("judge.json", lambda _: b"[]"), "TypeError"),
        (spoil("judge.json", lambda content: content.replace(b"label_names", b"names")), "KeyError"),
        (spoil("judge.json", lambda content: content.replace(b'"red"', b'"mauve"')), "was changed after it was saved"),
        (spoil("saved_model.pb", lambda content: content[:1000]), "is no usable judge"),
        (spoil("variables/variables.data-00000-of-00001", lambda content: content[:1000]), "is no usable judge"),
    ],
)
def test_a_damaged_judge_is_refused_by_its_path(saved, change, reason):
    change(saved)
    with pytest.raises(ModelError, match=reason) as caught:
        load_judge(saved)
    assert str(caught.value).startswith(f"judge {saved}: ")


def test_weights_of_another_judge_are_refused(saved, quick_judge, tmp_path):
    save_judge(quick_judge(), tmp_path / "other")
    (saved / "judge.json").rename(tmp_path / "other" / "judge.json")
    with pytest.raises(ModelError, match="was changed after it was saved; copy it again"):
        load_judge(tmp_path / "other")


@pytest.mark.parametrize("place", ["nothing", "file"])
def test_a_path_that_is_not_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=f"judge {tmp_path / place}: is no usable judge"):
        load_judge(tmp_path / place)


def test_a_place_that_cannot_be_written_is_named(judge, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=f"judge {tmp_path}/file/judge: could not be written"):
        save_judge(judge, tmp_path / "file" / "judge")


def test_a_folder_holds_a_judge_or_the_reason_why_there_is_none(saved, judge, tmp_path):
    found, reason = read_judge(saved)
    assert (found.sha256, reason) == (judge.sha256, "")
    save_missing_reason("the data has no labels", tmp_path / "none")
    assert read_judge(tmp_path / "none") == (None, "the data has no labels")
    (tmp_path / "none" / "absent.json").write_text(json.dumps({"why": 1}))
    with pytest.raises(ModelError, match=r"absent\.json: cannot be read"):
        read_judge(tmp_path / "none")
    with pytest.raises(ModelError, match="is no usable judge"):
        read_judge(tmp_path / "nowhere")
