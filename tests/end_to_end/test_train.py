"""`storygan train` on the records of a pipeline gives the same model as the pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.training.training_state import read_history

pytestmark = pytest.mark.slow


def final_weights(folder: Path) -> dict[str, np.ndarray]:
    """Returns the trained variables in the last checkpoint of the only training below a folder."""
    last = max(folder.glob("work/*/checkpoints/0*"), key=lambda path: int(path.name))
    reader = tf.train.load_checkpoint(str(last / "weights"))
    names = [name for name in reader.get_variable_to_dtype_map() if name.startswith("trained/")]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def test_train_gives_the_model_of_the_run_that_prepared_the_stories(finished_run, cli, tmp_path):
    _, run_dir, _ = finished_run
    out = tmp_path / "out"
    done = cli("train", "--data", run_dir, "--out", out, *cli.tiny_settings())
    assert done.returncode == 0, done.stdout + done.stderr
    expected, trained = final_weights(run_dir), final_weights(out)
    assert expected.keys() == trained.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(trained[name], value, err_msg=name)
    assert [entry["losses"] for entry in read_history(out)] == [entry["losses"] for entry in read_history(run_dir)]
    one, other = SavedStoryGAN(run_dir), SavedStoryGAN(out)
    assert one.info == other.info
    sentences = one.info["examples"]
    assert (one.generate(sentences, seeds=[1, 2, 3]) == other.generate(sentences, seeds=[1, 2, 3])).all()
