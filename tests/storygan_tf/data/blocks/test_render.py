"""Rendered folders: the same seed gives the same bytes, with any number of processes, stories and interruptions."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.datasets import Story, load_frames, open_dataset
from storygan_tf.data.datasets.story import load_frame

pytest.importorskip("mitsuba", reason="the extra `render` is not installed")

from storygan_tf.data.blocks import scene
from storygan_tf.data.blocks.render import render_blocks


def hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Returns a folder of three stories, rendered by two processes; not to be changed."""
    folder = tmp_path_factory.mktemp("rendered") / "data"
    calls = []
    render_blocks(folder, 2, 1, seed=5, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 3) for done in range(4)]
    return folder


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """Returns a folder of the first training and the first test story, rendered by one process; not to be changed."""
    folder = tmp_path_factory.mktemp("smaller") / "data"
    render_blocks(folder, 1, 1, seed=5, workers=1)
    return folder


def test_the_folder_is_read_as_both_layouts(rendered):
    by_format = {name: list(open_dataset(rendered, name).stories()) for name in ("story-folder", "clevr-sv")}
    for stories in by_format.values():
        assert all(isinstance(story, Story) for story in stories)
        assert [story.split for story in stories] == ["train", "train", "test"]
    unlisted = {name: [replace(story, index_file="") for story in stories] for name, stories in by_format.items()}
    assert unlisted["story-folder"] == unlisted["clevr-sv"]
    assert open_dataset(rendered).format == "story-folder"
    assert set(open_dataset(rendered).label_names) <= set(clevr.LABELS)


def test_names_sizes_and_vectors_are_the_public_ones(rendered):
    names = sorted(path.name for path in (rendered / "images").iterdir())
    assert names == [f"CLEVR_new_{index:06d}_{k}.png" for index in (0, 1, 10000) for k in (1, 2, 3, 4)]
    with Image.open(rendered / "images" / names[0]) as image:
        assert (image.size, image.mode) == ((128, 96), "RGBA")
    vectors = np.load(rendered / "CLEVR_dict.npy", allow_pickle=True, encoding="latin1").item()
    assert sorted(vectors) == names
    assert {(vector.shape, vector.dtype.str) for vector in vectors.values()} == {((75,), "<f8")}
    assert "seed: 5\n" in (rendered / "SOURCE").read_text()
    assert "not the public CLEVR-SV" in (rendered / "SOURCE").read_text()


def test_fewer_stories_and_another_number_of_processes_give_the_same_bytes(rendered, smaller):
    again, whole = hashes(smaller), hashes(rendered)
    assert len(again) == 8 + 3
    assert all(again[name] == whole[name] for name in again if name.startswith("images"))
    lines = (rendered / "stories.jsonl").read_text().splitlines()
    assert (smaller / "stories.jsonl").read_text().splitlines() == [lines[0], lines[2]]


def test_an_interrupted_rendering_is_continued(rendered, tmp_path):
    """Two stories lack frames, one of which is half written under another name, and there are no tables."""
    folder = tmp_path / "data"
    missing = ("images/CLEVR_new_000000_3.png", "images/CLEVR_new_000000_4.png", "images/CLEVR_new_000001_4.png")
    shutil.copytree(rendered, folder, ignore=shutil.ignore_patterns("CLEVR_dict.npy", "stories.jsonl"))
    for name in missing:
        (folder / name).unlink()
    (folder / "images" / ".CLEVR_new_000000_3.png.99.part").write_bytes(b"half")
    kept = (folder / "images/CLEVR_new_000000_1.png").stat().st_mtime_ns
    render_blocks(folder, 2, 1, seed=5, workers=2)
    assert hashes(folder) == hashes(rendered)
    assert (folder / "images/CLEVR_new_000000_1.png").stat().st_mtime_ns == kept


def test_a_folder_can_be_enlarged_but_not_reduced(rendered, smaller, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(smaller, folder)
    render_blocks(folder, 2, 1, seed=5, workers=1)
    assert hashes(folder) == hashes(rendered)
    with pytest.raises(DataError, match="1 stories that were not requested, such as CLEVR_new_000001"):
        render_blocks(folder, 1, 1, seed=5)
    render_blocks(folder, 2, 1, val_stories=1, seed=5, workers=1)
    for layout in ("story-folder", "clevr-sv"):
        splits = {story.story_id: story.split for story in open_dataset(folder, layout).stories()}
        assert list(splits.values()) == ["train", "train", "test", "val"]
        assert splits["CLEVR_new_900000"] == "val"
    assert "--test-stories 1 --val-stories 1 --seed 5 --out DIR" in (folder / "SOURCE").read_text()
    pictures = {name: digest for name, digest in hashes(rendered).items() if name.startswith("images/")}
    assert pictures.items() <= hashes(folder).items()


def test_a_folder_of_another_seed_is_refused(rendered):
    before = hashes(rendered)
    with pytest.raises(DataError, match="was rendered with seed 5, now 6"):
        render_blocks(rendered, 2, 1, seed=6)
    assert hashes(rendered) == before


def test_a_folder_of_another_size_is_refused(rendered, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "SOURCE").write_text((rendered / "SOURCE").read_text().replace("128x96", "96x72"))
    with pytest.raises(DataError, match="was rendered with frames 96x72 RGBA, now 128x96 RGBA"):
        render_blocks(folder, 2, 1, seed=5)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(DataError, match="not rendered here"):
        render_blocks(tmp_path, 1, 0)
    with pytest.raises(DataError, match="found a file"):
        render_blocks(tmp_path / "letters.txt", 1, 0)


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"stories": 10_001, "test_stories": 1}, "stories: found 10001, expected 0 to 10000"),
        ({"stories": -1, "test_stories": 1}, "stories: found -1"),
        ({"stories": 0, "test_stories": 0}, "expected at least one"),
        ({"stories": 1, "test_stories": 1, "val_stories": 100_001}, "validation stories: found 100001"),
        ({"stories": 1, "test_stories": 1, "seed": -1}, "seed: found -1"),
        ({"stories": 1, "test_stories": 1, "workers": 0}, "workers: found 0"),
    ],
)
def test_numbers_out_of_range_are_reported(tmp_path, numbers, match):
    with pytest.raises(DataError, match=match):
        render_blocks(tmp_path / "data", **numbers)
    assert not (tmp_path / "data").exists()


def test_a_place_that_cannot_be_written_is_reported():
    with pytest.raises(DataError, match=r"/proc/blocks/SOURCE: could not be written"):
        render_blocks(Path("/proc/blocks"), 1, 0)


def test_without_mitsuba_the_extra_is_named(tmp_path):
    """Runs a separate process in which Mitsuba cannot be imported."""
    (tmp_path / "mitsuba.py").write_text("raise ImportError('no module of that name')")
    code = (
        "from pathlib import Path; from storygan_tf.data.blocks.render import render_blocks; "
        f"render_blocks(Path({str(tmp_path / 'data')!r}), 1, 0)"
    )
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[4])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "pip install 'storygan[render]'" in done.stderr


def as_record(picture, path):
    picture.save(path)
    return load_frame(path).astype(int)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return as_record(scene.render([]), tmp_path_factory.mktemp("table") / "table.png")


def test_the_table_is_smooth_and_grey(table):
    assert np.ptp(table, axis=-1).max() == 0
    assert 80 < table.min() < table.max() < 220
    assert max(np.abs(np.diff(table[..., 0], n=2, axis=axis)).max() for axis in (0, 1)) <= 2


def test_frames_differ_only_where_the_new_object_and_its_shadow_are(rendered, tmp_path, table):
    story = next(story for story in open_dataset(rendered).stories())
    frames = [np.asarray(load_frame(path)).astype(int) for path in story.images]
    assert len(load_frames(story)) == 4
    for before, after, objects in zip([table, *frames], frames, story.objects, strict=False):
        new = objects[-1]
        changed = np.argwhere(np.abs(after - before).max(axis=-1) > 8)
        assert len(changed)
        assert np.abs(changed[:, 1] + 0.5 - new["x"]).max() < 18
        assert len(changed) < 350


@pytest.mark.parametrize("material", clevr.MATERIALS)
def test_colours_can_be_distinguished(tmp_path, material):
    means = {}
    for colour in clevr.COLOURS:
        frame = as_record(
            scene.render([SceneObject("sphere", colour, material, "large", 0.0, 0.0)]), tmp_path / "x.png"
        )
        means[colour] = frame[27:32, 30:34].mean(axis=(0, 1))
    pairs = [(one, other) for one in means for other in means if one < other]
    assert min(np.abs(means[one] - means[other]).max() for one, other in pairs) > 20


@pytest.mark.parametrize("shape", clevr.SHAPES)
def test_an_object_is_where_its_projection_says(tmp_path, table, shape):
    for right, back in ((-5, -1), (0, 4), (5, 2), (2, -6)):
        item = SceneObject(shape, "yellow", "rubber", "large", *clevr.place(right, back))
        frame = as_record(scene.render([item]), tmp_path / "x.png")
        yellow = np.argwhere(frame[..., 0] - frame[..., 2] > 60)
        x, y, radius = clevr.project(item)
        assert abs(yellow[:, 1].mean() + 0.5 - x) < 1
        assert abs(yellow[:, 0].mean() + 0.5 - y) < 1.2
        assert abs(np.ptp(yellow[:, 1]) + 1 - 2 * radius) < 3


def test_there_is_no_grain(tmp_path):
    """Nothing is random: two renderings are equal to the bit, and Mitsuba's own seed has no effect."""
    items = [SceneObject("sphere", "red", "metal", "large", 0.0, 0.0)]
    mitsuba = scene.load_mitsuba()
    assert scene.render(items).tobytes() == scene.render(items).tobytes()
    studio = mitsuba.load_dict(scene._studio(), optimize=False)
    one, other = (np.array(mitsuba.render(studio, spp=1, seed=seed)) for seed in (1, 2))
    assert np.array_equal(one, other)


def test_objects_of_one_surface_stay_apart():
    """With optimize=True, Mitsuba would merge such cubes into one shape without a name."""
    cubes = [SceneObject("cube", "red", "metal", "large", *clevr.place(4 * n, 0)) for n in (-1, 0, 1)]
    red = np.asarray(scene.render(cubes)).astype(int)[..., :3]
    columns = np.flatnonzero(((red[..., 0] - red[..., 1]) > 50).any(axis=0))
    assert (np.diff(columns) > 1).sum() == 2
