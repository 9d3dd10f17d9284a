"""Frames of other systems are read in every layout as its system numbers them; other files are errors."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.evaluation.external_frames import LAYOUTS, ImageFrames, stored_test_ids, write_images

KNOWN = LAYOUTS[1:]
IDS = ("s7", "s10", "s9")
T = 3


def level(story_id, frame):
    """Returns the grey level of a frame of a story, from 1."""
    return 20 * IDS.index(story_id) + frame


def frames_of(story_id, frames=T):
    return np.stack([np.full((64, 64, 3), level(story_id, frame), np.uint8) for frame in range(1, frames + 1)])


def levels(stories):
    assert stories.dtype == np.uint8
    assert stories.shape[2:] == (64, 64, 3)
    assert np.array_equal(stories.min(axis=(2, 3, 4)), stories.max(axis=(2, 3, 4)))
    return stories[:, :, 0, 0, 0].tolist()


def save(folder, names):
    """Saves pictures whose grey levels count up from 1."""
    for number, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number,) * 3).save(folder / name)
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("named", [True, False], ids=["named", "auto"])
@pytest.mark.parametrize("skip", [False, True], ids=["whole", "continuation"])
@pytest.mark.parametrize("layout", KNOWN)
def test_what_is_written_is_read_in_every_layout(tmp_path, layout, skip, named):
    write_images(tmp_path / "out", layout, IDS, frames_of, skip)
    images = ImageFrames(tmp_path / "out", layout if named else "auto", IDS, T, skip)
    assert images.layout == layout
    requested = ["s9", "s7", "s10", "s9"]
    assert levels(images.read(requested)) == [[level(name, frame) for frame in (1, 2, 3)[skip:]] for name in requested]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_storyviz_counts_stories_as_stored_and_frames_from_zero(tmp_path):
    save(tmp_path, [f"img-{story}-{frame}.png" for story in range(3) for frame in range(3)])
    images = ImageFrames(tmp_path, "auto", IDS, T)
    assert levels(images.read(IDS)) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_arldm_counts_through_the_stories_in_the_order_of_their_numbers(tmp_path):
    """AR-LDM sorts test ids as numbers: s7, s9, s10."""
    save(tmp_path, [f"{index:04d}.png" for index in range(9)])
    images = ImageFrames(tmp_path, "auto", IDS, T)
    assert levels(images.read(IDS)) == [[1, 2, 3], [7, 8, 9], [4, 5, 6]]


def test_arldm_numbers_what_continuation_draws_without_a_gap(tmp_path):
    save(tmp_path, [f"{index:04d}.png" for index in range(6)])
    images = ImageFrames(tmp_path, "arldm", IDS, T, skip_first_frame=True)
    assert levels(images.read(IDS)) == [[1, 2], [5, 6], [3, 4]]


def test_arldm_numbers_can_exceed_9999(tmp_path):
    story_ids = [f"{number:05d}" for number in range(5001)]
    for index in range(10002):
        (tmp_path / f"{index:04d}.png").touch()
    save(tmp_path, ["10001.png", "10000.png"])
    assert levels(ImageFrames(tmp_path, "auto", story_ids, 2).read(["05000"])) == [[2, 1]]


@pytest.mark.parametrize("below", ["generate", ""], ids=["its folder", "its parent"])
def test_cpcsv_has_a_folder_a_story(tmp_path, below):
    pictures = [f"{story}/{frame}.png" for story in range(3) for frame in range(3)]
    save(tmp_path / "generate", pictures)
    save(tmp_path / "original", reversed(pictures))
    images = ImageFrames(tmp_path / below, "auto", IDS, T)
    assert images.layout == "cpcsv"
    assert levels(images.read(IDS)) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("form", ["img-{}-{}.png", "{}/{}.png"], ids=["storyviz", "cpcsv"])
def test_continuation_may_count_frames_from_zero_or_from_one(tmp_path, form, first):
    save(tmp_path, [form.format(story, first + frame) for story in range(3) for frame in range(2)])
    images = ImageFrames(tmp_path, "auto", IDS, T, skip_first_frame=True)
    assert levels(images.read(IDS)) == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("layout", KNOWN)
def test_a_shuffled_story_reads_as_other_frames(tmp_path, layout):
    order = {"s7": [0, 1, 2], "s10": [0, 1, 2], "s9": [2, 0, 1]}
    write_images(tmp_path / "right", layout, IDS, frames_of)
    write_images(tmp_path / "wrong", layout, IDS, lambda name: frames_of(name)[order[name]])
    right, wrong = (ImageFrames(tmp_path / name, layout, IDS, T).read(IDS) for name in ("right", "wrong"))
    assert np.array_equal(right[:2], wrong[:2])
    assert levels(wrong[2:]) == [[level("s9", frame) for frame in (3, 1, 2)]]


@pytest.mark.parametrize(
    ("mode", "size"), [("RGBA", (64, 64)), ("L", (256, 256)), ("P", (299, 299)), ("RGB", (512, 384)), ("LA", (16, 9))]
)
def test_any_size_and_mode_is_squeezed_as_the_datas_frames_are(tmp_path, mode, size):
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, [6, 6, 3], np.uint8)).resize(size, Image.Resampling.NEAREST)
    coarse.convert(mode).save(tmp_path / "img-0-0.png")
    frame = ImageFrames(tmp_path, "auto", ["s1"], 1).read(["s1"])[0, 0]
    expected = coarse.convert(mode).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(frame, np.asarray(expected))


def test_it_travels_to_workers_as_names_alone(tmp_path):
    write_images(tmp_path / "out", "cpcsv", IDS, frames_of)
    images = ImageFrames(tmp_path / "out", "auto", IDS, T, given="text and gold labels")
    content = pickle.dumps(images)
    assert len(content) < 1000
    copy = pickle.loads(content)
    assert (copy.layout, copy.drawn_from) == ("cpcsv", "text and gold labels")
    assert np.array_equal(copy.read(IDS), images.read(IDS))
    assert copy.read([]).shape == (0, T, 64, 64, 3)


def test_files_with_other_names_are_ignored(tmp_path):
    write_images(tmp_path / "out", "storyviz", IDS, frames_of)
    for name in ("labels.npy", "board.png", "img-0-0.png.png", "img-0-0.png.txt", "7.png"):
        (tmp_path / "out" / name).touch()
    assert ImageFrames(tmp_path / "out", "auto", IDS, T).layout == "storyviz"


@pytest.mark.parametrize("layout", KNOWN)
def test_a_missing_and_a_superfluous_frame_are_named(tmp_path, layout):
    write_images(tmp_path / "out", layout, IDS, frames_of)
    lost, *_, moved = names(tmp_path / "out")
    stray = moved.replace("2.png", "7.png").replace("0008", "0017")
    (tmp_path / "out" / lost).unlink()
    (tmp_path / "out" / moved).rename(tmp_path / "out" / stray)
    with pytest.raises(DataError) as error:
        ImageFrames(tmp_path / "out", "auto", IDS, T)
    message = str(error.value)
    assert f"layout {layout}: found 8 frames" in message
    assert "expected 9: 3 of each of 3 test stories" in message
    lost, moved, stray = (name.removeprefix("generate/") for name in (lost, moved, stray))
    assert f"Missing: {lost}, {moved}. Superfluous: {stray}." in message


def test_of_many_files_the_first_are_named(tmp_path):
    save(tmp_path, [f"img-{story}-{frame}.png" for story in (0, 1, 9, 110) for frame in range(2)])
    with pytest.raises(DataError, match=r"found 8 frames.*expected 12.*Missing: img-2-0.png, img-2-1.png,") as error:
        ImageFrames(tmp_path, "auto", [f"s{number}" for number in range(6)], 2)
    assert "img-3-0.png, and 5 more. Superfluous: img-9-0.png, img-9-1.png, img-110-0.png, and 1 more." in str(
        error.value
    )


def test_names_are_taken_as_they_are_written(tmp_path):
    """A number with leading zeros is another name, not the same frame again."""
    save(tmp_path, ["img-0-0.png", "img-00-0.png"])
    with pytest.raises(DataError, match=r"found 2 frames.*expected 1.*Superfluous: img-00-0.png"):
        ImageFrames(tmp_path, "auto", ["s1"], 1)


@pytest.mark.parametrize("layout", KNOWN)
def test_a_wrong_skip_first_frame_is_recognized(tmp_path, layout):
    write_images(tmp_path / "all", layout, IDS, frames_of)
    write_images(tmp_path / "rest", layout, IDS, frames_of, skip_first_frame=True)
    with pytest.raises(DataError, match=r"found 6 frames.*expected 9.*2 frames per story.*with --skip-first-frame"):
        ImageFrames(tmp_path / "rest", layout, IDS, T)
    with pytest.raises(DataError, match=r"found 9 frames.*expected 6.*3 frames per story.*without --skip-first-frame"):
        ImageFrames(tmp_path / "all", layout, IDS, T, skip_first_frame=True)


def test_a_layout_that_is_not_there_has_no_frames(tmp_path):
    write_images(tmp_path / "out", "storyviz", IDS, frames_of)
    with pytest.raises(DataError, match=r"layout arldm: found 0 frames .0000.png.*expected 9.*Missing: 0000.png"):
        ImageFrames(tmp_path / "out", "arldm", IDS, T)


def test_the_error_of_auto_lists_the_expected_names(tmp_path):
    save(tmp_path, [f"frame_{number}.jpg" for number in range(5)])
    with pytest.raises(DataError) as error:
        ImageFrames(tmp_path, "auto", IDS, T)
    assert "found frame_0.jpg, frame_1.jpg, frame_2.jpg, and 2 more" in str(error.value)
    for name in ("img-{story}-{frame}.png (storyviz)", "0001.png, ... (arldm)", "{story}/{frame}.png (cpcsv)"):
        assert name in str(error.value)


def test_auto_does_not_choose_among_several(tmp_path):
    save(tmp_path, ["img-0-0.png", "0000.png"])
    with pytest.raises(DataError, match="found frames of storyviz and arldm; expected the frames of one layout"):
        ImageFrames(tmp_path, "auto", ["s1"], 1)
    assert ImageFrames(tmp_path, "arldm", ["s1"], 1).layout == "arldm"


@pytest.mark.parametrize(
    ("layout", "message"),
    [("storyvis", "did you mean 'storyviz'"), ("", "expected one of auto, storyviz, arldm, cpcsv")],
)
def test_the_error_of_an_unknown_layout_names_the_nearest(tmp_path, layout, message):
    with pytest.raises(DataError, match=message):
        ImageFrames(tmp_path, layout, IDS, T)


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, found in {"file": "a file", "nowhere": "no such folder", "empty": "nothing in it"}.items():
        with pytest.raises(DataError, match=f"{name}: found {found}"):
            ImageFrames(tmp_path / name, "auto", IDS, T)


def test_no_stories_and_no_frames_are_errors(tmp_path):
    with pytest.raises(DataError, match="found no test story"):
        ImageFrames(tmp_path, "auto", [], T)
    with pytest.raises(DataError, match="have 1 frame, expected at least 2"):
        ImageFrames(tmp_path, "auto", IDS, 1, skip_first_frame=True)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    write_images(tmp_path / "out", "storyviz", IDS, frames_of)
    images = ImageFrames(tmp_path / "out", "auto", IDS, T)
    (tmp_path / "out/img-1-2.png").write_bytes(b"none")
    (tmp_path / "out/img-2-0.png").unlink()
    with pytest.raises(DataError, match=r"out/img-1-2\.png: found not a picture of a known format, expected an image"):
        images.read(["s7", "s10"])
    with pytest.raises(DataError, match=r"out/img-2-0\.png: found missing image"):
        images.read(["s9"])
    assert levels(images.read(["s7"])) == [[1, 2, 3]]


def test_the_error_of_an_unknown_story_names_it(tmp_path):
    write_images(tmp_path / "out", "storyviz", IDS, frames_of)
    with pytest.raises(DataError, match=r"story 's11': is not among the 3 test stories.*did you mean 's"):
        ImageFrames(tmp_path / "out", "auto", IDS, T).read(["s7", "s11"])


def test_writing_replaces_nothing_and_leaves_nothing_behind(tmp_path):
    write_images(tmp_path / "out", "arldm", IDS, frames_of)
    for layout, target, message in (
        ("arldm", "out", "exists already"),
        ("auto", "new", "expected one of story"),
    ):
        with pytest.raises(DataError, match=message):
            write_images(tmp_path / target, layout, IDS, frames_of)
    with pytest.raises(DataError, match="story s9: 2 frames to write, expected 3 as in the others"):
        write_images(tmp_path / "new", "storyviz", IDS, lambda name: frames_of(name, 2 if name == "s9" else 3))
    with pytest.raises(DataError, match="could not be written"):
        write_images(tmp_path / "out/0000.png/new", "storyviz", IDS, frames_of)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path):
    write_images(tmp_path, "cpcsv", IDS, frames_of)
    assert names(tmp_path) == [f"generate/{story}/{frame}.png" for story in range(3) for frame in range(3)]


def test_each_story_is_requested_once(tmp_path):
    requested = []
    write_images(tmp_path / "out", "arldm", IDS, lambda name: requested.append(name) or frames_of(name))
    assert requested == ["s7", "s9", "s10"]


def stored(folder, layout="auto", test_fraction=0.5, length=1000):
    return stored_test_ids(folder, DataConfig(format=layout, test_fraction=test_fraction, max_sentence_length=length))


def test_test_stories_are_in_stored_order(tmp_path, story_folder, story_lines):
    folder = story_folder(tmp_path / "data", train=2, test=4)
    lines = story_lines(folder)
    content = lines.path.read_text().splitlines(keepends=True)
    lines.path.write_text("".join(content[index] for index in (5, 0, 2, 4, 1, 3)))
    assert stored(folder) == ["s005", "s002", "s004", "s003"]


def test_stories_without_a_split_are_assigned_as_for_training(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=8, test=8, split=False)
    some, more = stored(folder, test_fraction=0.3), stored(folder, test_fraction=0.8)
    assert 0 < len(some) < len(more) < 16
    assert [name for name in more if name in some] == some


def test_rejected_stories_keep_their_positions(tmp_path, story_folder, story_lines):
    """Another system may have drawn a story that this project rejects."""
    folder = story_folder(tmp_path / "data", train=2, test=6)
    lines = story_lines(folder)
    lines.edit(0, story_id="s004", split="test")  # the later one becomes a duplicate
    lines.edit(2, images=["images/none.png"] * 4)
    lines.edit(3, sentences=["a", " ", "c", "d"])
    lines.edit(5, labels=None)
    lines.edit(6, story_id=None)
    with lines.path.open("ab") as file:
        file.write(b"\n{half a line\n")
        file.write(json.dumps({"story_id": "s100", "split": "other"}).encode() + b"\n[1]\n")
        file.write(json.dumps({"story_id": "s101", "split": "test"}).encode())
    assert stored(folder) == ["s004", "s002", "s003", "s004 (line 5)", "s005", "line 7", "s007", "s101"]


def test_rejected_stories_without_a_split_are_assigned_by_their_ids(tmp_path, story_folder, story_lines):
    folder = story_folder(tmp_path / "data", train=8, test=8, split=False)
    before = stored(folder)
    lines = story_lines(folder)
    for index in range(0, 16, 2):
        lines.edit(index, sentences=["a"])
    assert stored(folder) == before
    assert stored(folder, length=3) == before


def test_gaps_of_clevr_sv_keep_their_positions(tmp_path):
    vector = clevr.to_vector((SceneObject("cube", "red", "rubber", "small", *clevr.place(-3, 2)),))
    vectors = {f"CLEVR_new_{index:06d}_1.png": vector for index in (9999, 10000, 10002, 10001)}
    np.save(tmp_path / "CLEVR_dict.npy", np.array(vectors, dtype=object), allow_pickle=True)
    (tmp_path / "images").mkdir()
    for index in (9998, 9999, 10000, 10001, 10004):
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"CLEVR_new_{index:06d}_1.png")
    assert stored(tmp_path) == [f"CLEVR_new_{index}" for index in ("010000", "010001", "010002", "010004")]


def test_an_unusable_data_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="data folder"):
        stored(tmp_path)
