"""`storygan data`: the reports, pictures and folders that it makes, and its error messages."""

from __future__ import annotations

import functools
import json

import pytest
from PIL import Image


@pytest.fixture
def data(storygan):
    """Returns a function that runs a command of `storygan data`."""
    return functools.partial(storygan, "data")


@pytest.fixture
def data_error(data):
    """Returns a function that runs a command of `storygan data`, which must fail, and returns its error message."""

    def run(*arguments):
        done = data(*arguments)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    return run


@pytest.fixture
def folder(tmp_path, story_folder):
    return story_folder(tmp_path / "data", train=6, test=2)


def test_check_counts_stories_and_pictures(data, folder):
    done = data("check", folder)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["layout"] == "story-folder"
    assert lines["stories"] == "8 given, 8 usable, 0 set aside"
    assert lines["splits"] == "test: 2, train: 6"
    assert lines["frames"] == "4 a story (stories by number of frames: 4: 8)"
    assert lines["pictures"] == "96x72: 32"
    assert lines["labels"].startswith("blue: ")


def test_check_prints_rejected_stories_with_reasons(data, folder, story_lines):
    (folder / "images/s000_2.png").unlink()
    (folder / "images/s001_2.png").write_bytes(b"no picture")
    story_lines(folder).edit(2, sentences=["a", "b", "c"])
    done = data("check", folder)
    assert done.returncode == 0, done.stderr
    assert "8 given, 5 usable, 3 set aside" in done.stdout
    assert "1 x missing image: s000 (images/s000_2.png)" in done.stdout
    assert "1 x not a picture of a known format: s001 (images/s001_2.png)" in done.stdout
    assert "1 x 3 sentences for 4 images; they must be as many: s002 (stories.jsonl:3)" in done.stdout


def test_check_fails_when_no_story_is_left(data, folder):
    done = data("check", folder, "--frames", 5)
    assert done.returncode == 1
    assert (
        "8 x 4 frames, expected 5: s000 (stories.jsonl); s001 (stories.jsonl); s002 (stories.jsonl); ..." in done.stdout
    )
    assert "no story can be used" in done.stderr


def test_check_of_an_empty_or_missing_folder_fails(data_error, tmp_path):
    assert "nothing in it; expected stories.jsonl" in data_error("check", tmp_path)
    assert "no such folder" in data_error("check", tmp_path / "none")


def test_check_in_another_format_names_the_expected_file(data_error, folder):
    assert "expected CLEVR_dict.npy" in data_error("check", folder, "--format", "clevr-sv")


def test_show_draws_a_contact_sheet(data, folder, tmp_path):
    done = data("show", folder, "--out", tmp_path / "board.png", "--stories", 3)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "board.png") as board:
        assert board.width > 4 * 160
        assert board.height > 3 * 180


def test_show_skips_and_prints_unreadable_pictures(data, data_error, folder, tmp_path):
    for number in (0, 4, 5, 6, 7):
        (folder / f"images/s{number:03d}_2.png").write_bytes(b"no picture")
    done = data("show", folder, "--out", tmp_path / "board.png", "--stories", 2)
    assert done.returncode == 0, done.stderr
    assert "5 x not a picture of a known format: s000 (images/s000_2.png); s004" in done.stdout
    assert "1 of 8 stories are in" in done.stdout
    for path in (folder / "images").iterdir():
        path.write_bytes(b"no picture")
    assert "no picture of the chosen stories can be read" in data_error("show", folder, "--out", tmp_path / "board.png")


def test_show_refuses_a_wrong_ending_and_a_folder_without_stories(data_error, folder, tmp_path):
    assert "expected .png" in data_error("show", folder, "--out", tmp_path / "board.txt")
    (folder / "stories.jsonl").write_text("{}\n")
    assert "no story can be used" in data_error("show", folder, "--out", tmp_path / "board.png")


def test_render_makes_a_folder_that_check_accepts(data, data_error, tmp_path):
    pytest.importorskip("mitsuba", reason="the extra `render` is not installed")
    out = tmp_path / "blocks"
    arguments = ("render", "--stories", 1, "--test-stories", 1, "--out", out, "--seed", 3)
    done = data(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"are in {out}" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert data(*arguments).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()} == before
    checked = data("check", out)
    assert "2 given, 2 usable" in checked.stdout
    assert "128x96: 8" in checked.stdout
    assert "was rendered with seed 3, now 4" in data_error(*arguments[:-1], 4)
    story = json.loads((out / "stories.jsonl").read_text().splitlines()[0])
    assert len(story["sentences"]) == 4


def test_check_of_a_published_set_prints_missing_shared_and_unused(data, tmp_path, pororo_folder):
    folder = pororo_folder(tmp_path / "pororo")
    (folder / "a_mask.png").write_bytes(b"")
    done = data("check", folder)
    assert done.returncode == 0, done.stderr
    assert "layout     pororo-sv" in done.stdout
    assert "pictures   8x8: 40" in done.stdout
    assert "published  train: 6 of 10,191 usable, 10,185 are missing" in done.stdout
    assert "published  test: 1 of 2,208 usable, 2,207 are missing" in done.stdout
    assert "overlap    of 1 test stories 0 have all pictures of a train story, 0 all its sentences, 1 at" in done.stdout
    assert "note       1 stories of img_cache4.npy are in no split" in done.stdout
    assert "not used   *_mask.png: 1" in done.stdout
    older = data("check", folder, "--pororo-split", "train-test")
    assert "splits     test: 3, train: 5" in older.stdout
    assert "published" not in older.stdout


def test_leaks_are_printed_and_dropped(data, tmp_path, flintstones_folder):
    folder = flintstones_folder(tmp_path / "flintstones")
    assert "note       1 of 1 test stories hold clips of the training split" in data("check", folder).stdout
    assert "splits     train: 6\n" in data("check", folder, "--drop-leaks").stdout


def test_convert_makes_a_story_folder_with_the_sources_of_frames(data, data_error, tmp_path, flintstones_folder):
    folder, out = flintstones_folder(tmp_path / "flintstones"), tmp_path / "out"
    done = data("convert", folder, "--out", out, "--frame-seed", 3)
    assert done.returncode == 0, done.stderr
    assert f"8 stories are in {out}, 0 were set aside" in done.stdout
    story = json.loads((out / "stories.jsonl").read_text().splitlines()[0])
    assert story["sources"][0]["file"] == f"video_frames_sampled/{story['story_id']}.npy"
    assert "8 given, 8 usable" in data("check", out).stdout
    assert "something there already" in data_error("convert", folder, "--out", out)
    assert "expected one of auto, story-folder" in data_error("convert", folder, "--out", out, "--format", "pororo")
