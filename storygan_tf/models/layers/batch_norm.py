"""Batch normalisation as StoryGAN uses it everywhere."""

from __future__ import annotations

import keras
import tensorflow as tf


def batch_norm(name: str | None = None) -> keras.layers.BatchNormalization:
    """Returns a batch normalisation of momentum 0.9 and epsilon 1e-5 (Ioffe and Szegedy, arXiv:1502.03167).

    Its statistics are shared between replicas only where there is more than one, because that disables the fused
    kernel. Layers before it need no bias. It computes in float32 under every policy of `keras.mixed_precision`.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=replicas > 1, name=name, dtype="float32"
    )
