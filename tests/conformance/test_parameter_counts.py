"""Parameters of the full-size networks, counted by hand for each row of the paper's tables (T = 4, Z = 100)."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.training.storygan import StoryGAN

T, Z = 4, 100


def norm(channels: int) -> int:
    """Returns the trained parameters of a normalization: scale and shift, without the two moving statistics."""
    return 2 * channels


def gated(inputs: int, units: int) -> int:
    """Returns the parameters of three gates, each with an input matrix, a recurrent matrix and a bias."""
    return 3 * (inputs * units + units * units + units)


ROWS = {
    "2.1 row 1, Linear": ("generator.story_encoder.dense", 128 * T * 128),
    "2.1 row 1, BN": ("generator.story_encoder.norm", norm(128)),
    "2.1 row 2, mu": ("generator.story_encoder.mu", 128 * 128 + 128),
    "2.1 row 2, log sigma^2": ("generator.story_encoder.log_var", 128 * 128 + 128),
    "2.2 row 1, Linear": ("generator.context_encoder.dense", (128 + Z) * 128),
    "2.2 row 1, BN": ("generator.context_encoder.norm", norm(128)),
    "2.2 row 2, GRU": ("generator.context_encoder.gru", gated(128, 128)),
    "2.2 row 3, Text2Gist and 2.3": (
        "generator.context_encoder.text2gist",
        gated(128, 128) + 128 * 1024 + norm(1024),
    ),
    "2.3 row 1, Linear": ("generator.context_encoder.text2gist.filter_dense", 128 * 1024),
    "2.3 row 1, BN": ("generator.context_encoder.text2gist.filter_norm", norm(1024)),
    "2.4 row 1, Conv": ("generator.image_generator.first", 3 * 3 * 8 * 512),
    "2.4 row 1, BN": ("generator.image_generator.norms.0", norm(512)),
    "2.4 rows 2 and 3": ("generator.image_generator.blocks.0", 3 * 3 * 512 * 256),
    "2.4 row 3, BN": ("generator.image_generator.norms.1", norm(256)),
    "2.4 rows 4 and 5": ("generator.image_generator.blocks.1", 3 * 3 * 256 * 128),
    "2.4 row 5, BN": ("generator.image_generator.norms.2", norm(128)),
    "2.4 rows 6 and 7": ("generator.image_generator.blocks.2", 3 * 3 * 128 * 64),
    "2.4 row 7, BN": ("generator.image_generator.norms.3", norm(64)),
    "2.4 rows 8 and 9": ("generator.image_generator.last", 3 * 3 * 64 * 3 + 3),
    "2.5 row 1, Conv": ("image_discriminator.trunk.convolutions.0", 4 * 4 * 3 * 64),
    "2.5 row 2, Conv": ("image_discriminator.trunk.convolutions.1", 4 * 4 * 64 * 128),
    "2.5 row 3, Conv": ("image_discriminator.trunk.convolutions.2", 4 * 4 * 128 * 256),
    "2.5 row 4, Conv": ("image_discriminator.trunk.convolutions.3", 4 * 4 * 256 * 512),
    "2.5 row 1, BN": ("image_discriminator.trunk.norms.0", norm(64)),
    "2.5 row 2, BN": ("image_discriminator.trunk.norms.1", norm(128)),
    "2.5 row 3, BN": ("image_discriminator.trunk.norms.2", norm(256)),
    "2.5 row 4, BN": ("image_discriminator.trunk.norms.3", norm(512)),
    "2.5 row 5, Conv": ("image_discriminator.joint", 3 * 3 * (512 + 128 + 128) * 512),
    "2.5 row 5, BN": ("image_discriminator.joint_norm", norm(512)),
    "2.5 row 6, Conv": ("image_discriminator.score_conv", 4 * 4 * 512 * 1 + 1),
    "2.6.1 rows 1 to 4": (
        "story_discriminator.trunk",
        4 * 4 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + norm(64) + norm(128) + norm(256) + norm(512),
    ),
    "2.6.1 row 5, Conv": ("story_discriminator.image_conv", 4 * 4 * 512 * 32),
    "2.6.1 row 5, BN": ("story_discriminator.image_norm", norm(32)),
    "2.6.2 row 1, Linear": ("story_discriminator.text_dense", (128 * T) * (32 * 4 * T)),
    "2.6.2 row 1, BN": ("story_discriminator.text_norm", norm(32 * 4 * T)),
    "2.6.3, w and b": ("story_discriminator.score_dense", 32 * 4 * T + 1),
}

TOTALS = {
    "generator": 2_047_555,
    "image_discriminator": 6_305_665,
    "story_discriminator": 3_283_393,
}
"""The sums of the rows above; `docs/model.md` states them."""


@pytest.fixture(scope="module")
def full_size() -> StoryGAN:
    return StoryGAN(StoryGANConfig(frames=T, noise_size=Z))


def find(root: keras.Model, path: str) -> keras.layers.Layer:
    for part in path.split("."):
        root = root[int(part)] if part.isdigit() else getattr(root, part)
    return root


def count(layer: keras.layers.Layer) -> int:
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


@pytest.mark.parametrize("row", ROWS)
def test_row(full_size, row):
    path, expected = ROWS[row]
    assert count(find(full_size, path)) == expected


@pytest.mark.parametrize("network", TOTALS)
def test_rows_are_all_there_is(full_size, network):
    """The row of Text2Gist includes the layers of table 2.3, which are therefore skipped here."""
    rows = [size for path, size in ROWS.values() if path.startswith(f"{network}.") and "filter_" not in path]
    assert sum(rows) == count(getattr(full_size, network)) == TOTALS[network]


@pytest.mark.parametrize("network", TOTALS)
def test_untrained_weights_are_the_moving_statistics(full_size, network):
    untrained = [weight.name for weight in getattr(full_size, network).non_trainable_weights]
    assert all("moving_" in name for name in untrained)


def test_labels_add_a_4x4_convolution_and_nothing_else():
    with_labels = StoryGAN(StoryGANConfig(labels=15))
    assert count(with_labels.image_discriminator.label_conv) == 4 * 4 * 512 * 15 + 15
    assert count(with_labels.image_discriminator) == TOTALS["image_discriminator"] + 4 * 4 * 512 * 15 + 15
    assert [count(network) for network in (with_labels.generator, with_labels.story_discriminator)] == [
        TOTALS["generator"],
        TOTALS["story_discriminator"],
    ]


def test_normalisations_have_the_stated_constants(full_size):
    layers = [layer for network in full_size.networks for layer in network.submodules]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 1 + 2 + 4 + 5 + 6
    assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}
