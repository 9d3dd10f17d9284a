"""The other look of `blocks`: it has another table and the same objects, and is the same in every run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fine_tuning import other_look, training_options, wooden_table, write_other_look
from PIL import Image

from storygan_tf.config import presets

TABLE = np.full([64, 64, 3], 128, np.uint8)


def frame_with(colour, table=TABLE):
    frame = table.copy()
    frame[20:30, 20:30] = colour
    return frame


def test_the_table_changes_and_objects_keep_their_colour():
    frames = np.stack([frame_with((200, 20, 30)), TABLE])
    drawn = other_look(frames, TABLE, wooden_table())
    red, green, blue = drawn[0, 25, 25]
    assert red > 150
    assert max(green, blue) < 60
    assert (drawn[1] != TABLE).mean() > 0.9
    outside = np.ones([64, 64], bool)
    outside[20:30, 20:30] = False
    np.testing.assert_array_equal(drawn[0][outside], drawn[1][outside])


def test_a_shadow_darkens_the_new_table():
    shaded = other_look(frame_with((115, 115, 115))[np.newaxis], TABLE, wooden_table())[0]
    bright = other_look(TABLE[np.newaxis], TABLE, wooden_table())[0]
    ratio = shaded[20:30, 20:30].astype(float) / bright[20:30, 20:30]
    np.testing.assert_allclose(ratio, 115 / 128, atol=0.03)


def test_light_comes_from_the_left():
    plain = other_look(TABLE[np.newaxis], TABLE, np.full([64, 64, 3], 100.0, np.float32))[0]
    assert plain[0, 0, 0] == 115
    assert plain[0, -1, 0] == 75


def test_the_table_is_the_same_each_time_and_no_flat_colour():
    np.testing.assert_array_equal(wooden_table(), wooden_table())
    assert wooden_table().std(axis=(0, 1)).min() > 3


def test_training_stories_are_left_out(tmp_path):
    lines = []
    for number in range(6):
        Image.fromarray(frame_with((200, 10, 10 * number))).save(tmp_path / f"{number}.png")
        split = "train" if number < 2 else "test"
        lines.append({"story_id": str(number), "split": split, "sentences": ["A."], "images": [f"{number}.png"]})
    (tmp_path / "stories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_other_look(tmp_path, tmp_path / "out", train=1, test=2)
    written = [json.loads(line) for line in (tmp_path / "out" / "stories.jsonl").read_text().splitlines()]
    assert [(story["story_id"], story["split"]) for story in written] == [("2", "train"), ("3", "test"), ("4", "test")]
    with Image.open(tmp_path / "out" / "2.png") as image:
        assert image.size == (64, 64)
    with pytest.raises(SystemExit, match="found 4 test stories, expected 9"):
        write_other_look(tmp_path, tmp_path / "more", train=4, test=5)


def test_every_model_passes_the_gate():
    options = training_options("quick", ["training.seed=9"])
    settings = presets.load(options[1]).override(options[3::2])
    thresholds = {name: value for name, value in vars(settings.evaluation).items() if name.startswith(("min_", "max_"))}
    active = {name: value for name, value in thresholds.items() if value is not None}
    assert active == {"min_ssim_over_random": -2.0}, "SSIM goes from -1 to 1"
    assert settings.training.seed == 9
