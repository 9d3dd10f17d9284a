"""The batch normalisation of all networks of StoryGAN."""

from __future__ import annotations

import keras
import tensorflow as tf


def batch_norm(name: str | None = None) -> keras.layers.BatchNormalization:
    """Returns a `BatchNormalization` layer with momentum 0.9 and epsilon 1e-5 (Ioffe and Szegedy, arXiv:1502.03167).

    Its statistics are synchronised over replicas only if there are several, because synchronisation disables the fused
    kernel. The layer before it needs no bias. It computes in float32 under every policy of `keras.mixed_precision`.

    Args:
        name: name of the layer.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=replicas > 1, name=name, dtype=keras.backend.floatx()
    )
