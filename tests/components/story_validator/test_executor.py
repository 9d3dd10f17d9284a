"""StoryValidator on real records and statistics: the anomalies that it reports, and those that stop a run."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from PIL import Image
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.schema_gen.executor import Executor as SchemaGen
from tfx.components.statistics_gen.executor import Executor as StatisticsGen
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.story_validator.executor import Executor
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema

LABELS = ["red", "green", "blue"]
FRAMES = 2


@dataclasses.dataclass
class Record:
    """A story of two frames, as any ExampleGen may write it."""

    number: int
    sentences: tuple[str, ...] = ("A red square.", "A green square.")
    colours: tuple[int, ...] = (0, 1)
    side: int = 64
    plain: bool = False
    flags: tuple[int, ...] | None = None
    drawn: tuple[int, ...] | None = None
    bright: int = 100

    def serialized(self) -> bytes:
        flags = np.eye(len(LABELS), dtype=int)[list(self.colours)] if self.flags is None else [self.flags]
        frames = [self._frame(colour) for colour in self.colours]
        example = example_schema.story_example(f"s{self.number:03d}", self.sentences, frames, flags, drawn=self.drawn)
        return example.SerializeToString()

    def _frame(self, colour: int) -> bytes:
        frame = np.full((self.side, self.side, 3), self.bright, np.uint8)
        if not self.plain:
            frame[10:30, 10 + self.number % 9 : 30, colour] = 255 - self.bright
        Image.fromarray(frame).save(png := io.BytesIO(), "PNG")
        return png.getvalue()


def many(count, **values):
    turns = ((0, 1), (1, 2), (2, 0))
    return [Record(number, **({"colours": turns[number % 3]} | values)) for number in range(count)]


class Run:
    """Runs StatisticsGen, SchemaGen and StoryValidator on splits of records.

    Args:
        folder: a folder for the artifacts.
        beam_executor: function that constructs an executor on Beam.
    """

    def __init__(self, folder, beam_executor):
        self.folder, self.beam_executor = folder, beam_executor

    def artifact(self, kind, name):
        new = kind()
        new.uri = str(self.folder / name)
        (self.folder / name).mkdir(exist_ok=True)
        return new

    def __call__(self, *assignments, labels=LABELS, **splits):
        """Returns the output artifacts; `assignments` are settings, such as `model.labels=9`."""
        examples = self.artifact(standard_artifacts.Examples, "examples")
        examples.split_names = artifact_utils.encode_split_names(list(splits))
        for split, stories in splits.items():
            (self.folder / f"examples/Split-{split}").mkdir(exist_ok=True)
            file = str(self.folder / f"examples/Split-{split}/data_tfrecord-00000-of-00001.gz")
            with tf.io.TFRecordWriter(file, "GZIP") as writer:
                for story in stories:
                    writer.write(story.serialized())
        (self.folder / "examples/labels.json").write_text(json.dumps(labels))
        statistics = self.artifact(standard_artifacts.ExampleStatistics, "statistics")
        schema = self.artifact(standard_artifacts.Schema, "schema")
        self.beam_executor(StatisticsGen).Do({"examples": [examples]}, {"statistics": [statistics]}, {})
        SchemaGen().Do({"statistics": [statistics]}, {"schema": [schema]}, {"infer_feature_shape": 1})
        outputs = SimpleNamespace(
            expected_schema=self.artifact(standard_artifacts.Schema, "expected"),
            anomalies=self.artifact(standard_artifacts.ExampleAnomalies, "anomalies"),
        )
        settings = Settings().override([f"model.frames={FRAMES}", *assignments]).to_json()
        self.beam_executor(Executor).Do(
            {"examples": [examples], "statistics": [statistics], "schema": [schema]},
            {name: [output] for name, output in vars(outputs).items()},
            {"settings": settings, "code_fingerprint": "c"},
        )
        return outputs

    def anomalies(self):
        return json.loads((self.folder / "anomalies/anomalies.json").read_text())


@pytest.fixture
def run(tmp_path, beam_executor):
    return Run(tmp_path, beam_executor)


def features(anomalies):
    return [(anomaly["split"], anomaly["feature"], anomaly["stops"]) for anomaly in anomalies]


@pytest.fixture(scope="module")
def skewed(tmp_path_factory, beam_executor):
    """Returns the outputs and the anomalies of good stories in two splits, and of others in the test split."""
    run = Run(tmp_path_factory.mktemp("skewed"), beam_executor)
    other = {"colours": (2, 2), "sentences": ("Nothing but blue.", "Blue again."), "bright": 200}
    outputs = run(train=many(12, drawn=(0, 3)), val=many(6, drawn=(1, 1)), test=many(12, drawn=(2, 0), **other))
    return outputs, run.anomalies()


def test_good_stories_have_no_anomaly_and_a_schema_with_their_shapes(skewed):
    outputs, anomalies = skewed
    assert [anomaly for anomaly in anomalies if anomaly["split"] != "test"] == []
    schema = io_utils.SchemaReader().read(f"{outputs.expected_schema.uri}/schema.pbtxt")
    assert {feature.name: feature.shape.dim[0].size for feature in schema.feature} == {
        "story_id": 1, "sentences": 2, "images": 2, "labels": 6, "drawn_frames": 2
    }  # fmt: skip
    (labels,) = (feature for feature in schema.feature if feature.name == "labels")
    assert (labels.int_domain.min, labels.int_domain.max) == (0, 1)
    assert artifact_utils.decode_split_names(outputs.anomalies.split_names) == ["train", "val", "test"]
    content = tfdv.load_stats_binary(f"{outputs.anomalies.uri}/Split-train/SeenStats.pb")
    assert content.datasets[0].num_examples == 12


BROKEN = {
    "another number of frames": (
        {"sentences": ("A red square.",) * 3, "colours": (0, 1, 2)}, (), {"sentences", "images", "labels"},
        "Expected: 2 values in each record",
    ),
    "frames of another size": ({"side": 32}, (), {"image_width", "image_height"}, "32. Expected: 64 to 64"),
    "flags that are not 0 or 1": ({"flags": (0, 2, 0, 1, 0, 0)}, (), {"labels"}, "large value: 2. Expected: 0 to 1"),
    "frames of one colour": ({"plain": True}, (), {"look"}, "Expected: at least 50% of the frames have more than"),
    "long sentences": ({}, ("data.max_sentence_length=9",), {"sentence_characters"}, "Expected: 1 to 9"),
    "another number of labels": ({}, ("model.labels=9",), {"labels"}, "Expected: 18 values in each record"),
}  # fmt: skip
FAST = ("another number of frames",)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BROKEN]
)
def test_broken_data_stops_the_run(run, name):
    values, assignments, broken, words = BROKEN[name]
    with pytest.raises(DataError, match=words) as error:
        run(*assignments, train=many(6, **values), test=many(6, **values))
    stopping = {anomaly["feature"] for anomaly in run.anomalies() if anomaly["stops"]}
    assert stopping == broken
    for feature in broken:
        assert f"  train: {feature}: " in str(error.value)
    assert str(error.value).startswith("no model can be trained on these stories:")


@pytest.mark.slow
def test_missing_labels_stop_a_run_that_needs_them(run):
    with pytest.raises(DataError, match="labels"):
        run("model.labels=3", labels=[], train=many(3, flags=()), test=many(3, flags=()))


def test_a_skew_of_the_test_split_is_reported_and_does_not_stop_the_run(skewed):
    outputs, anomalies = skewed
    assert features(anomalies) == [("test", "brightness", False), ("test", "label", False), ("test", "word", False)]
    assert "between test and train" in anomalies[1]["found"]
    assert "blue" in anomalies[1]["found"]
    found = anomalies_pb2.Anomalies()
    found.ParseFromString(io_utils.read_bytes_file(f"{outputs.anomalies.uri}/Split-test/SchemaDiff.pb"))
    assert set(found.anomaly_info) == {"brightness", "label", "word"}


@pytest.mark.slow
def test_a_label_without_training_stories_is_reported(run):
    run(train=many(12, colours=(0, 1)), test=[*many(12, colours=(0, 1))[1:], Record(0, colours=(0, 2))])
    anomalies = run.anomalies()
    assert features(anomalies) == [("test", "label", False)]
    assert "blue" in anomalies[0]["found"]


@pytest.mark.slow
def test_half_of_the_frames_may_have_one_colour(run):
    run(train=many(6) + many(6, plain=True), test=many(6))
    assert run.anomalies() == []
