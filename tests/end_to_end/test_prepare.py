"""`storygan prepare` writes the same records as `storygan run`, and `storygan train` can read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.data import example_schema
from storygan_tf.data.prepared_data import PreparedData

pytestmark = pytest.mark.slow


def stories(files) -> dict[bytes, tuple[dict, np.ndarray]]:
    found = {}
    for content in tf.data.TFRecordDataset(list(map(str, files)), compression_type="GZIP").as_numpy_iterator():
        features = dict(tf.train.Example.FromString(content).features.feature)
        vectors = np.array(features.pop(example_schema.VECTORS).float_list.value)
        found[features[example_schema.STORY_ID].bytes_list.value[0]] = features, vectors
    return found


def vectors_of(found) -> np.ndarray:
    """Returns the vectors of all sentences: [sentences, 128]."""
    return np.concatenate([vectors.reshape(-1, 128) for _, vectors in found.values()])


def test_its_records_are_those_of_a_run_and_train(finished_run, cli, tmp_path):
    data, run_dir, _ = finished_run
    done = cli("prepare", "--data", data, "--out", tmp_path / "prepared", "--preset", "quick", "--beam-workers", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stories    14 of 14: 10 train, 4 test" in done.stdout
    assert (done.stderr, list(Path(tmp_path).rglob("beam-temp-*"))) == ("", [])
    ours, runs = PreparedData.find(tmp_path / "prepared"), PreparedData.find(run_dir)
    assert (ours.labels, ours.settings) == (runs.labels, runs.settings)
    for one, other in ((stories(ours.train), stories(runs.train)), (stories(ours.test), stories(runs.test))):
        assert one.keys() == other.keys()
        assert all(features == other[name][0] for name, (features, _) in one.items())
        # With so few sentences some directions of the PCA are arbitrary, but the products of vectors are not.
        found, expected = (vectors_of(one), vectors_of({name: other[name] for name in one}))
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-2)
    trained = cli("train", "--data", tmp_path / "prepared", "--out", tmp_path / "out", *cli.tiny_settings())
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert list((tmp_path / "out/serving_model/storygan").iterdir())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--beam-runner", "flink"], "did you mean 'FlinkRunner'"),
        (["--beam", "parallelism=2"], "expected an option of Beam"),
        (["--data", "no/such/folder"], "no such folder"),
        (["--set", "model.sentence_size=513"], "gives vectors of 512"),
    ],
)
def test_wrong_arguments_end_with_one_readable_paragraph(cli, story_folder, tmp_path, options, expected):
    data = story_folder(tmp_path / "data", train=3, test=1)
    done = cli("prepare", "--data", data, "--out", tmp_path / "out", *options)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/Split-*"))
