"""Loading exported models and drawing stories with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_models import LengthVectorizer

from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.export.signatures import StoryGANExport, export_storygan
from storygan_tf.models.story_generator import StoryGenerator

STORY = ["A red cube.", "A blue ball.", "Rain.", "The end."]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    config = StoryGANConfig(sentence_size=8, noise_size=2, generator_width=8)
    generator = StoryGenerator(config)
    generator(tf.zeros([1, 4, 8]))
    info = {"frames": 4, "words": ["a", "red", "cube"], "examples": [STORY] * 3}
    all_signatures = StoryGANExport.signatures

    def required_signatures(module):
        return {name: all_signatures(module)[name] for name in ("serving_default", "generate", "info")}

    with pytest.MonkeyPatch.context() as patch:  # The other signatures take half of the time and are not used here.
        patch.setattr(StoryGANExport, "signatures", required_signatures)
        export_storygan(generator, LengthVectorizer(), info, root / "serving_model" / "storygan" / "9")
    return root


@pytest.fixture(scope="module")
def saved(run_dir):
    return SavedStoryGAN(run_dir)


def test_a_run_a_base_and_a_version_directory_mean_the_same(run_dir):
    base = run_dir / "serving_model" / "storygan"
    assert find_model(run_dir) == find_model(base) == find_model(base / "9") == base / "9"


def test_the_newest_whole_version_is_taken(run_dir, tmp_path):
    base = tmp_path / "base"
    for version in ("9", "10", "11", "not-a-number"):
        (base / version).mkdir(parents=True)
    for version in ("9", "10", "not-a-number"):
        (base / version / "saved_model.pb").write_bytes(b"")
    assert find_model(base) == base / "10"


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="holds no exported model"):
        find_model(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        find_model(tmp_path / "missing")


def test_a_model_that_draws_nan_is_an_error(run_dir):
    damaged = SavedStoryGAN(run_dir)
    for variable in damaged._loaded.generator_variables:
        variable.assign(np.nan * np.ones(variable.shape))
    with pytest.raises(ModelError, match="story 1: the model drew values that are not numbers"):
        damaged.generate([STORY], [1])


def test_truncated_weights_are_an_error(run_dir, tmp_path):
    shutil.copytree(run_dir / "serving_model" / "storygan" / "9", tmp_path / "9")
    (weights,) = (tmp_path / "9" / "variables").glob("variables.data*")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="9: is no usable StoryGAN export"):
        SavedStoryGAN(tmp_path)


def test_a_corrupt_export_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="no usable StoryGAN export"):
        SavedStoryGAN(tmp_path)


def test_a_saved_model_of_another_kind_is_named(tmp_path):
    tf.saved_model.save(LengthVectorizer(), str(tmp_path))
    with pytest.raises(ModelError, match="lacks the signatures generate, info"):
        SavedStoryGAN(tmp_path)


def test_stories_become_pictures_that_repeat_by_seed(saved):
    drawn = saved.generate([STORY, STORY], seeds=[1, 2])
    assert drawn.shape == (2, 4, 64, 64, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(saved.generate([STORY], seeds=[1]), saved.generate([STORY], seeds=[1]))
    assert (drawn[0] != drawn[1]).any()


def test_a_story_of_another_length_and_a_blank_sentence_are_refused(saved):
    with pytest.raises(ModelError, match="found 3 sentences, expected 4"):
        saved.generate([STORY[:3]])
    with pytest.raises(ModelError, match="sentence 2 is blank"):
        saved.generate([[STORY[0], " ", *STORY[2:]]])


def test_unknown_words_are_listed_once_in_order(saved):
    assert saved.unknown_words(["A zebra, a red RED zebra!", "On a cube"]) == ["zebra", "on"]
