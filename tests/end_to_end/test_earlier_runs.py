"""A run directory and an export made by commit 8a5c751, before `storygan_tf` had sub-packages, still work.

`tests/fixtures/run_of_8a5c751.tar.xz` holds what a user keeps of such a run (settings, metrics, checkpoint, pushed
version), the stories that it was made from, and the frames that commit drew for its test stories with seed 7.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "run_of_8a5c751.tar.xz"
SEED = 7


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Path:
    """Returns the unpacked folder with `run`, `data` and the frames."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder / "before_packages"


@pytest.fixture(scope="module")
def test_stories(earlier) -> list[list[str]]:
    lines = map(json.loads, (earlier / "data/stories.jsonl").read_text().splitlines())
    return [line["sentences"] for line in lines if line["split"] == "test"]


def assert_drawn_alike(frames: np.ndarray, earlier: Path) -> None:
    """Allows a difference of one grey level in few pixels, as another processor may round differently."""
    expected = np.load(earlier / "frames_seed_7.npy")
    assert frames.shape == expected.shape == (4, 2, 64, 64, 3)
    assert np.abs(frames.astype(int) - expected).max() <= 1
    assert (frames != expected).mean() < 0.01


def test_its_export_draws_the_same_frames(earlier, test_stories):
    from storygan_tf.export.loaded_model import SavedStoryGAN

    assert_drawn_alike(SavedStoryGAN(earlier / "run").generate(test_stories, [SEED] * len(test_stories)), earlier)


def test_a_training_starts_from_it_with_its_discriminators(earlier, test_stories):
    import tensorflow as tf

    from storygan_tf.config.schema import Settings
    from storygan_tf.data.batch_types import to_uint8
    from storygan_tf.data.datasets import open_dataset
    from storygan_tf.training.storygan import StoryGAN
    from storygan_tf.training.warm_start import load_initial_model

    initial = load_initial_model(str(earlier / "run"))
    assert initial.has_discriminators
    settings = Settings.from_json(json.dumps(json.loads((earlier / "run/settings.json").read_text())["settings"]))
    initial.check(settings, open_dataset(earlier / "data").label_names)
    gan = StoryGAN(initial.model)
    kernels = [weight for weight in gan.image_discriminator.weights if "kernel" in weight.name]
    before = [kernel.numpy() for kernel in kernels]
    initial.apply(gan)
    assert all((kernel.numpy() != old).any() for kernel, old in zip(kernels, before, strict=True))

    vectors = tf.reshape(initial.load_vectorizer()(tf.reshape(tf.constant(test_stories), [-1])), [4, 2, -1])
    seeds = tf.fill([4], tf.constant(SEED, tf.int64))
    assert_drawn_alike(to_uint8(gan.generator(vectors, training=False, seed=seeds).images).numpy(), earlier)


@pytest.mark.slow
def test_it_is_evaluated(earlier, cli, tmp_path):
    done = cli(
        *("evaluate", "--model", earlier / "run", "--data", earlier / "data", "--out", tmp_path / "judged"),
        *("--set", "evaluation.classifier_epochs=1", "--set", "evaluation.replicates=40"),
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: the tiny model misses the thresholds
    rows = json.loads((tmp_path / "judged/metrics.json").read_text())["rows"]
    assert 0 < rows[0]["figures"]["ssim"]["value"] < 1


@pytest.mark.slow
def test_a_run_starts_from_it(earlier, cli, tmp_path):
    data = shutil.copytree(earlier / "data", tmp_path / "data")
    extra = ("model.frames=2", "model.sentence_size=12", "model.context_size=16", "model.filter_count=4")
    extra += ("model.filter_length=12", "model.discriminator_width=2")
    done = cli(*cli.tiny_run(data, tmp_path / "run", *extra), "--init-from", earlier / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/serving_model/storygan").is_dir()
