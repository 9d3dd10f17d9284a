"""A batch: every story once, also after a failure, in every layout, on several workers, from a server."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.beam_options import runner_arguments
from serving.batch_generators import SavedSource, ServedSource, close_generators
from serving.batch_inference import BatchFailedError, BatchJob, run_batch
from storygan_tf.common.errors import ConfigError, DataError, ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets import open_dataset
from storygan_tf.data.example_reader import StoryRecords
from storygan_tf.evaluation.external_frames import ImageFrames, stored_test_ids
from storygan_tf.evaluation.frame_sources import story_seed
from storygan_tf.export.loaded_model import SavedStoryGAN

BLOCKS = SavedSource(str(find_model("blocks")))
SHARD = 4


@pytest.fixture(scope="module", autouse=True)
def model_that_stays_loaded():
    """Keeps tests from loading the model anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.batch_inference.close_generators", lambda: None)
        yield
    close_generators()


@pytest.fixture(scope="module")
def stories_file(saved_blocks, tmp_path_factory):
    """Writes 19 lines: s07 is blank, s11 too short, one line is not JSON, and s03 and s18 have seeds."""
    sentences = saved_blocks.info["examples"]
    stories = [
        {"story_id": f"s{number:02d}", "sentences": [f"{number} {text}" for text in sentences[number % 3]]}
        for number in range(19)
    ]
    stories[3]["seed"] = stories[18]["seed"] = 3
    stories[7]["sentences"][1] = "\t "
    stories[11]["sentences"].pop()
    lines = [json.dumps(story) for story in stories]
    lines[14] = lines[14][:-1]
    path = tmp_path_factory.mktemp("stories") / "stories.jsonl"
    path.write_text("\n".join(lines))
    return path


COUNTS = {
    "given": 19,
    "written": 16,
    "rejected": {"3 sentences, expected 4": 1, "not JSON": 1, "sentence 2 is blank; write at least one word.": 1},
}


def batch_of(stories: Path, out: Path, **settings) -> BatchJob:
    return BatchJob(str(stories), str(out), **{"source": BLOCKS, "shard_rows": SHARD, "batch_size": 3} | settings)


@pytest.fixture(scope="module")
def undisturbed(stories_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run_batch(batch_of(stories_file, out)) == COUNTS
    return out


def tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def manifest(out: Path) -> list[dict]:
    return [json.loads(line) for part in sorted((out / "manifest").iterdir()) for line in part.read_text().splitlines()]


def rejects(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_every_story_is_written_once_or_set_aside_with_a_reason(undisturbed, stories_file):
    entries = manifest(undisturbed)
    assert [entry["story_id"] for entry in entries] == [f"s{n:02d}" for n in range(19) if n not in (7, 11, 14)]
    assert [(reject["file"], reject["story_id"]) for reject in rejects(undisturbed)] == [
        ("stories.jsonl:8", "s07"),
        ("stories.jsonl:12", "s11"),
        ("stories.jsonl:15", "stories.jsonl:15"),
    ]
    named = [name for entry in entries for name in entry["images"]]
    assert len(named) == len(set(named)) == 4 * 16
    others = {
        "job.json",
        "counts.json",
        "rejects.jsonl",
        *(f"manifest/manifest-0000{n}-of-00005.jsonl" for n in range(5)),
    }
    assert set(tree(undisturbed)) == set(named) | others
    assert json.loads((undisturbed / "counts.json").read_text()) == COUNTS


def test_pictures_are_those_of_the_model_for_the_story_and_its_seed(undisturbed, saved_blocks):
    entries = manifest(undisturbed)
    assert {entry["seed"] for entry in entries if entry["story_id"] in ("s03", "s18")} == {3}
    assert all(entry["seed"] == story_seed(0, entry["story_id"]) for entry in entries if entry["seed"] != 3)
    assert {entry["version"] for entry in entries} == {"blocks"}
    drawn = saved_blocks.generate([entry["sentences"] for entry in entries], [entry["seed"] for entry in entries])
    for entry, frames in zip(entries, drawn, strict=True):
        written = [pixels((undisturbed / name).read_bytes()) for name in entry["images"]]
        np.testing.assert_allclose(np.stack(written).astype(int), frames.astype(int), atol=1)


def test_the_manifest_is_a_story_folder(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "stories")
    parts = sorted((tmp_path / "stories/manifest").iterdir())
    (tmp_path / "stories/stories.jsonl").write_text("".join(part.read_text() for part in parts))
    stories = list(open_dataset(tmp_path / "stories").stories())
    assert [story.story_id for story in stories] == [entry["story_id"] for entry in manifest(undisturbed)]


def test_the_same_call_again_draws_nothing(undisturbed, stories_file, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    monkeypatch.setattr("serving.batch_inference.draw_all", None)
    assert run_batch(batch_of(stories_file, undisturbed)) == COUNTS
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


class Failing:
    """Draws some batches and then fails; counts the stories that it has drawn."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.drawn = 0

    def method(self):
        """Returns what takes the place of `SavedStoryGAN.pictures`."""
        real = SavedStoryGAN.pictures

        def pictures(saved, stories, seeds):
            if not self.batches:
                raise ModelError("out of paint.")
            self.batches -= 1
            self.drawn += len(stories)
            return real(saved, stories, seeds)

        return pictures


@pytest.mark.parametrize("layout", ["files", "tfrecord"])
def test_a_failed_batch_is_continued_and_has_the_same_results(stories_file, tmp_path, monkeypatch, layout):
    run_batch(batch_of(stories_file, tmp_path / "whole", layout=layout))
    batch, failing = batch_of(stories_file, tmp_path / "out", layout=layout), Failing(5)
    monkeypatch.setattr(SavedStoryGAN, "pictures", failing.method())
    with pytest.raises(BatchFailedError, match=r"out of paint\. [234] of 5 parts are written"):
        run_batch(batch)
    assert not (tmp_path / "out/counts.json").exists()
    (tmp_path / "out/unfinished/aside/storygan-left").mkdir()
    blank_is_left = not (tmp_path / "out/manifest/manifest-00001-of-00005.jsonl").exists()
    left = COUNTS["written"] - len(manifest(tmp_path / "out"))
    failing.batches, failing.drawn = 99, 0
    assert run_batch(batch) == COUNTS
    assert failing.drawn == left + blank_is_left  # it is the model that refuses it
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_kill_while_results_are_put_together_loses_nothing(stories_file, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.batch_inference._finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_batch(batch_of(stories_file, tmp_path / "out"))
    monkeypatch.undo()
    monkeypatch.setattr("serving.batch_inference.draw_all", None)
    assert run_batch(batch_of(stories_file, tmp_path / "out")) == COUNTS
    assert tree(tmp_path / "out") == tree(undisturbed)


@pytest.mark.parametrize("mode", ["multi-threading", pytest.param("multi-processing", marks=pytest.mark.slow)])
def test_several_workers_write_the_same(stories_file, undisturbed, tmp_path, mode):
    assert run_batch(batch_of(stories_file, tmp_path / "out", beam_args=runner_arguments(mode, 2))) == COUNTS
    assert tree(tmp_path / "out") == tree(undisturbed)


@pytest.mark.parametrize("mode", ["in-memory", "multi-threading"])
def test_the_model_is_loaded_once_a_process(stories_file, tmp_path, monkeypatch, mode):
    loads = []

    class Counted:
        frames = 4

        def __init__(self, model):
            loads.append(model)

        def pictures(self, stories, seeds):
            return [[b"a picture"] * self.frames for _ in stories], [""] * len(stories)

    monkeypatch.setattr("serving.batch_generators.SavedStoryGAN", Counted)
    workers = None if mode == "in-memory" else 2
    close_generators()
    run_batch(batch_of(stories_file, tmp_path / "out", beam_args=runner_arguments(mode, workers)))
    close_generators()
    assert len(loads) == 1


@pytest.mark.parametrize("layout", ["storyviz", "arldm", "cpcsv"])
def test_evaluate_reads_the_layouts(tmp_path, story_folder, saved_blocks, layout):
    data = story_folder(tmp_path / "data", train=5, test=3)
    out = tmp_path / "out"
    batch = batch_of(data / "stories.jsonl", out, layout=layout, split="test", shard_rows=2)
    assert run_batch(batch) == {"given": 3, "written": 3, "rejected": {}}
    ids = stored_test_ids(data, DataConfig())
    found = ImageFrames(out / "images", "auto", ids, frames=4)
    assert found.layout == layout
    entries = manifest(out)
    drawn = saved_blocks.generate([entry["sentences"] for entry in entries], [entry["seed"] for entry in entries])
    assert [entry["story_id"] for entry in entries] == ids
    np.testing.assert_allclose(found.read(ids).astype(int), drawn.astype(int), atol=1)


def test_records_hold_stories_pictures_and_seeds(stories_file, undisturbed, tmp_path):
    out = tmp_path / "out"
    assert run_batch(batch_of(stories_file, out, layout="tfrecord")) == COUNTS
    files = sorted((out / "records").iterdir())
    records = StoryRecords(files)
    entries, pictures = manifest(out), manifest(undisturbed)
    assert records.ids == [entry["story_id"] for entry in entries]
    assert [entry["number"] for entry in entries if entry["record"].endswith(files[1].name)] == [0, 1, 2]
    batch = records.read(range(len(records)))
    assert batch.sentences == [entry["sentences"] for entry in entries]
    for frames, entry in zip(batch.images, pictures, strict=True):
        for frame, name in zip(frames, entry["images"], strict=True):
            np.testing.assert_array_equal(frame, pixels((undisturbed / name).read_bytes()))


def test_what_was_drawn_can_be_drawn_again_from_its_records(stories_file, undisturbed, tmp_path):
    run_batch(batch_of(stories_file, tmp_path / "records", layout="tfrecord"))
    again = batch_of(tmp_path / "records/records/*.gz", tmp_path / "again", seed=5)
    assert run_batch(again)["written"] == COUNTS["written"]
    assert [entry["seed"] for entry in manifest(tmp_path / "again")] == [e["seed"] for e in manifest(undisturbed)]


def test_a_server_draws_the_same(stories_file, undisturbed, tmp_path, blocks_server):
    source = ServedSource(blocks_server.target, concurrency=3).pinned()
    assert run_batch(batch_of(stories_file, tmp_path / "out", source=source)) == COUNTS
    found, expected = manifest(tmp_path / "out"), manifest(undisturbed)
    assert {entry["version"] for entry in found} == {"1"}
    assert [entry | {"version": "blocks"} for entry in found] == expected
    for name in (name for entry in expected for name in entry["images"]):
        one, other = (pixels((out / name).read_bytes()) for out in (tmp_path / "out", undisturbed))
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=1)
    assert rejects(tmp_path / "out") == rejects(undisturbed)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"layout": "tfrecord"}, "layout"),
        ({"batch_size": 4}, "batch_size"),
        ({"split": "test"}, "split"),
        ({"source": SavedSource}, "model_sha256"),
    ],
)
def test_an_output_of_another_batch_is_refused(stories_file, undisturbed, tmp_path, change, name):
    if "source" in change:
        shutil.copytree(BLOCKS.path, tmp_path / "blocks")
        with (tmp_path / "blocks" / "saved_model.pb").open("ab") as file:
            file.write(b"x")
        change = {"source": SavedSource(str(tmp_path / "blocks"))}
    with pytest.raises(ConfigError, match=f"was begun with another {name} "):
        run_batch(batch_of(stories_file, undisturbed, **change))


def test_an_input_that_changed_is_refused(stories_file, undisturbed, tmp_path):
    (tmp_path / "stories.jsonl").write_text(stories_file.read_text() + "\n")
    with pytest.raises(ConfigError, match="was begun with another input_sha256"):
        run_batch(batch_of(tmp_path / "stories.jsonl", undisturbed))


def test_a_folder_of_something_else_is_refused(stories_file, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="holds files that no batch job wrote"):
        run_batch(batch_of(stories_file, tmp_path))


def test_no_story_is_an_error(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"story_id": "s", "sentences": ["a"] * 4, "split": "train"}))
    with pytest.raises(DataError, match="found no story of split val"):
        run_batch(batch_of(path, tmp_path / "out", split="val"))


def test_a_model_that_is_none_fails_the_batch_in_its_own_words(stories_file, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(BatchFailedError, match="is no usable StoryGAN export"):
        run_batch(batch_of(stories_file, tmp_path / "out", source=SavedSource(str(tmp_path / "1"))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layout": "storyvis"}, "did you mean 'storyviz'"),
        ({"split": "dev"}, "expected one of train, val, test"),
        ({"batch_size": 0}, "--batch-size 0: expected at least 1"),
    ],
)
def test_settings_that_cannot_be_used(stories_file, tmp_path, change, words):
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(batch_of(stories_file, tmp_path), **change)
