"""TFX's BulkInferrer draws stories with an exported StoryGAN."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_models import LengthVectorizer
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import path_utils

from components.beam_options import beam_options
from pipeline.bulk_inference import DRAWN, ERROR, bulk_inferrer
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.models.story_generator import StoryGenerator

STORIES = [[f"{word} sentence {number}." for word in ("A", "Another", "The last")] for number in (1, 22, 333)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    generator = StoryGenerator(StoryGANConfig(frames=3, sentence_size=8, noise_size=2, generator_width=8))
    generator(tf.zeros([1, 3, 8]))
    path = tmp_path_factory.mktemp("export") / "1"
    info = model_info(Settings(model=generator.config), STORIES, [])
    export_storygan(generator, LengthVectorizer(), info, path)
    return SavedStoryGAN(path)


@pytest.fixture
def inputs(saved, tmp_path):
    """The input artifacts: three stories with seeds per split, the last of the test split with a blank sentence."""
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = (
        str(tmp_path / "examples"),
        artifact_utils.encode_split_names(["train", "test"]),
    )
    for split in ("train", "test"):
        (tmp_path / "examples" / f"Split-{split}").mkdir(parents=True)
        path = tmp_path / "examples" / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for number, story in enumerate(STORIES):
                blank = split == "test" and number == 2
                example = example_schema.story_example(
                    f"{split}{number}", [" ", *story[1:]] if blank else story, [b"png"] * 3
                )
                example.features.feature[example_schema.SEED].int64_list.value.append(number)
                writer.write(example.SerializeToString())
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    shutil.copytree(saved.path, path_utils.serving_model_path(model.uri))
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(tmp_path / "blessing")
    return {"examples": [examples], "model": [model], "model_blessing": [blessing]}


def infer(inputs, blessed, out):
    """Runs the step as the pipeline configures it; returns the examples that it wrote."""
    inputs["model_blessing"][0].set_int_custom_property("blessed", blessed)
    channels = [channel_utils.as_channel(inputs[name]) for name in ("examples", "model", "model_blessing")]
    step = bulk_inferrer(*channels, "test")
    output = standard_artifacts.Examples()
    output.uri = str(out)
    executor_class = step.executor_spec.executor_class
    context = executor_class.Context(beam_pipeline_args=beam_options([]), tmp_dir=str(out.with_name("tmp")))
    executor_class(context).Do(inputs, {"output_examples": [output]}, step.exec_properties)
    files = [str(path) for path in sorted(out.rglob("*.gz"))]
    return [tf.train.Example.FromString(one) for one in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()]


def test_the_stories_of_a_split_are_drawn_as_the_model_draws_them(inputs, saved, tmp_path):
    found = {
        one.features.feature[example_schema.STORY_ID].bytes_list.value[0]: one
        for one in infer(inputs, 1, tmp_path / "out")
    }
    assert sorted(found) == [b"test0", b"test1", b"test2"]
    drawn = saved.generate(STORIES[:2], [0, 1])
    for number, frames in enumerate(drawn):
        features = found[b"test%d" % number].features.feature
        pictures = [np.asarray(Image.open(io.BytesIO(png))) for png in features[DRAWN].bytes_list.value]
        np.testing.assert_allclose(np.stack(pictures).astype(int), frames.astype(int), atol=1)
        assert list(features[ERROR].bytes_list.value) == [b""]
    (error,) = found[b"test2"].features.feature[ERROR].bytes_list.value
    assert error == b"sentence 1 is blank; write at least one word."


def test_a_model_without_a_blessing_draws_nothing(inputs, tmp_path):
    assert infer(inputs, 0, tmp_path / "out") == []
