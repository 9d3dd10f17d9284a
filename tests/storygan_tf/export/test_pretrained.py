"""The models that ship with the package: found by name, small, complete, and created by one command."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common.compat import OBJECT_GRAPH
from storygan_tf.common.errors import ModelError
from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.common.model_paths import ASSETS_EXTRA, PRETRAINED, find_model, portable_name, pretrained_names
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.export.lineage import LINEAGE_FILE, lineage_of, model_fingerprint
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.export.signatures import export_storygan
from storygan_tf.export.weight_io import assign_weights, read_weights
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.training.reexport import compare
from storygan_tf.training.warm_start import load_initial_model

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "make_pretrained.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pretrained", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module by name
    spec.loader.exec_module(module)
    return module


def modification_times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in PRETRAINED.rglob("*")}


@pytest.fixture(scope="module")
def times_before() -> dict[Path, int]:
    return modification_times()


@pytest.fixture(scope="module")
def blocks(times_before) -> SavedStoryGAN:
    return SavedStoryGAN("blocks")


# By name


def test_blocks_ships():
    assert "blocks" in pretrained_names()
    assert find_model("blocks") == PRETRAINED / "blocks"


def test_a_folder_of_that_name_is_meant_where_it_is_written_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "saved_model.pb").write_bytes(b"")
    assert find_model("blocks") == PRETRAINED / "blocks"
    for written in ("./blocks", "blocks/", str(tmp_path / "blocks"), Path("blocks")):
        found = find_model(written)
        assert found == tmp_path / "blocks"
        assert find_model(str(found)) == found, "a path that was found stays a path when it is handed on as text"


def test_the_error_of_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"--model block: no such folder and no pretrained model; did you mean 'blocks"
    ):
        find_model("block")
    with pytest.raises(ModelError, match=r"no pretrained model \(there are: .*blocks.*\)\. Give the path of a run"):
        find_model("zebra")


def test_a_path_means_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable_name("runs/a") == str(tmp_path / "runs" / "a")
    assert portable_name("blocks") == "blocks"


# What ships


@pytest.mark.parametrize("name", pretrained_names())
def test_a_shipped_model_is_whole_and_small(name, script):
    version = PRETRAINED / name
    assert script.size_of(version) <= 12_000_000
    papers = script.read_papers(version)
    assert papers.lineage.model_sha256 == model_fingerprint(version)
    assert load_initial_model(name).model == Settings.from_json(json.dumps(papers.lineage.settings)).model
    assert "kept as float16" in papers.card


@pytest.mark.parametrize("name", pretrained_names())
def test_a_shipped_model_keeps_its_weights_as_float16(name):
    saved = tf.train.load_checkpoint(str(PRETRAINED / name / "variables" / "variables"))
    kinds = saved.get_variable_to_dtype_map()
    weights = {kind for key, kind in kinds.items() if key.startswith("generator_variables/")}
    assert weights == {tf.float16, tf.float32}
    sizes = [np.prod(shape) * kinds[key].size for key, shape in saved.get_variable_to_shape_map().items()]
    half = sum(size for (key, kind), size in zip(kinds.items(), sizes, strict=True) if kind == tf.float16)
    assert half > 0.9 * sum(size for key, size in zip(kinds, sizes, strict=True) if key.startswith("generator"))


def test_it_draws_the_stories_that_it_suggests(blocks):
    drawn = blocks.generate(blocks.info["examples"], [1] * len(blocks.info["examples"]))
    assert drawn.std(axis=(2, 3)).min() > 1
    assert blocks.unknown_words([sentence for story in blocks.info["examples"] for sentence in story]) == []


def test_it_draws_what_its_weights_draw_in_float32(blocks):
    initial = load_initial_model("blocks")
    generator = built(initial.model)
    assign_weights(generator, read_weights(initial.path), "blocks")
    story = blocks.info["examples"][0]
    vectors = initial.load_vectorizer()(tf.constant(story))[tf.newaxis]
    drawn = generator(vectors, training=False, seed=tf.constant([5], tf.int64)).images.numpy()
    expected = np.clip(np.round((drawn + 1) * 127.5), 0, 255)
    assert np.abs(blocks.generate([story], [5]) - expected).max() <= 1


def test_using_it_writes_no_files_next_to_it(blocks, times_before):
    """The folder of an installation may be read-only."""
    blocks.generate(blocks.info["examples"][:1])
    load_initial_model("blocks").load_vectorizer()
    lineage_of(find_model("blocks"))
    assert modification_times() == times_before


# How it is made


def built(config: StoryGANConfig) -> StoryGenerator:
    generator = StoryGenerator(config)
    generator(tf.zeros([1, config.frames, config.sentence_size]))
    return generator


@pytest.fixture
def documents_alone(tmp_path) -> Path:
    """Returns a version directory with a real model card and lineage, but without a real model."""
    shutil.copytree(PRETRAINED / "blocks" / ASSETS_EXTRA, tmp_path / "3" / ASSETS_EXTRA)
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"")
    return tmp_path / "3"


def change_lineage(version: Path, **values) -> None:
    lineage = lineage_of(version)
    assert lineage is not None
    (version / ASSETS_EXTRA / LINEAGE_FILE).write_text(dataclasses.replace(lineage, **values).to_json())


def test_a_model_without_card_and_lineage_is_refused(script, documents_alone, tmp_path):
    (documents_alone / ASSETS_EXTRA / MODEL_CARD).unlink()
    with pytest.raises(ModelError, match=r"has no model_card.md and lineage.json"):
        script.make(str(documents_alone), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_missing_in_the_lineage_are_refused(script, documents_alone):
    change_lineage(documents_alone, metrics={"ssim": 0.9})
    with pytest.raises(ModelError, match="lacks these metrics: object error, sharpness, diversity, label F1"):
        script.read_papers(documents_alone)


def test_metrics_missing_in_the_card_are_refused(script, documents_alone):
    card = documents_alone / ASSETS_EXTRA / MODEL_CARD
    card.write_text(card.read_text().replace("\n| label F1", "\n| label"))
    with pytest.raises(ModelError, match=r"lacks these metrics: label F1\."):
        script.read_papers(documents_alone)


def test_a_model_that_was_not_blessed_is_refused(script, documents_alone):
    change_lineage(documents_alone, blessed=False, reason="SSIM is low.")
    with pytest.raises(ModelError, match=r"was not blessed: SSIM is low\."):
        script.read_papers(documents_alone)


def test_a_model_that_is_too_large_is_refused(script, tmp_path):
    (tmp_path / "weights").write_bytes(b"")
    with (tmp_path / "weights").open("r+b") as file:
        file.truncate(12_000_000)
    script._check_size(tmp_path)
    (tmp_path / "one more").write_bytes(b"1")
    with pytest.raises(ModelError, match="takes 12000001 bytes, expected at most 12000000"):
        script._check_size(tmp_path)


class Loud(tf.Module):
    """A vectorizer of large numbers, by which rounded weights show."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences):
        lengths = tf.cast(tf.strings.length(sentences), tf.float32)
        return 100.0 * tf.sin(lengths[:, tf.newaxis] + tf.range(8.0))


@pytest.mark.slow
def test_pictures_that_change_by_more_than_a_grey_level_are_refused(script, tmp_path):
    generator = built(StoryGANConfig(frames=1, sentence_size=8, context_size=16, generator_width=8))
    for variable in generator.variables:
        if "image_generator" in variable.name and "kernel" in variable.name:
            variable.assign(variable * 40.0)
    info = {"frames": 1, "examples": [["A"], ["A cube"]]}
    for name, half in (("1", False), ("2", True)):
        export_storygan(generator, Loud(), info, tmp_path / name, half=half)
    with pytest.raises(ModelError, match=r"float16 weights change a picture by \d+ grey levels, expected 1"):
        compare(*(tf.saved_model.load(str(tmp_path / name)) for name in ("1", "2")), most=1)


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(tmp_path):
    """Converts the shipped model, whose weights are already rounded, so that they stay equal to the bit."""
    for name in ("a", "b"):
        command = [sys.executable, "-W", "ignore", SCRIPT, "blocks", "--name", name, "--out", tmp_path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / name) in done.stdout
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    converted, shipped = saved_tensors(tmp_path / "a"), saved_tensors(PRETRAINED / "blocks")
    assert converted.keys() == shipped.keys()
    for name, value in converted.items():
        assert (value.dtype, value.tobytes()) == (shipped[name].dtype, shipped[name].tobytes()), name


def saved_tensors(version: Path) -> dict[str, np.ndarray]:
    """Returns the variables of an export, without the description of its objects, which grows with each signature."""
    reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    names = set(reader.get_variable_to_shape_map()) - {OBJECT_GRAPH}
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


@pytest.mark.slow
def test_the_error_of_a_rejected_model_is_one_line(tmp_path):
    command = [sys.executable, "-W", "ignore", SCRIPT, str(tmp_path), "--out", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 1
    assert "holds no exported model" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
