"""What a training measures on held-out stories after each epoch: its losses, and two figures of the pictures.

Everything is computed in inference mode, with the generator that would be exported. The figures are `ssim`, the
structural similarity to the true frames (`storygan_tf.metrics.ssim`), and `sharpness`, the ratio of the mean absolute
Laplacian of generated frames to that of true frames: 1 for frames as sharp as the true ones, less for blurred ones.
"""

from __future__ import annotations

import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig
from storygan_tf.data.batch_types import Batch, to_float
from storygan_tf.models import losses
from storygan_tf.models.story_generator import GeneratorOutput
from storygan_tf.training import objectives
from storygan_tf.training.train_schedules import TrainableGAN

FIGURES = ("ssim", "sharpness")
"""Names of the figures."""

_LAPLACIAN = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]


def validated_names(phase: PhaseConfig) -> tuple[str, ...]:
    """Returns the names of everything that is measured in a phase: losses, accuracies of discriminators, figures."""
    adversarial = ("discriminator", "generator", "accuracy")
    names = [f"{kind}_{name}" for kind in ("image", "story") for name in adversarial]
    reported = objectives.reported_names(phase)
    return (*(name for name in names if name in reported), *objectives.PICTURE_LOSSES, *FIGURES)


def validation_values(gan: TrainableGAN, batch: Batch, output: GeneratorOutput) -> dict[str, tf.Tensor]:
    """Returns what `validated_names` lists, for each story of a batch.

    Args:
        gan: the model.
        batch: held-out stories.
        output: what the generator has drawn for their sentences, in inference mode.

    Returns:
        name -> float32 [batch]. Losses of the image discriminator and against it are sums over the T frames, as in the
        training.
    """
    real = to_float(batch["images"])
    names = validated_names(gan.phase)
    values = objectives.picture_objective(gan.phase, gan.background, output, real).reports
    if "image_discriminator" in names:
        values |= _image_values(gan, batch, real, output)
    if "story_discriminator" in names:
        logits = [gan.story_discriminator(frames, batch["vectors"], training=False) for frames in (real, output.images)]
        values |= _adversarial(gan, "story", *logits)
    return {**values, "ssim": frame_ssim(real, output.images), "sharpness": sharpness(real, output.images)}


def _image_values(gan: TrainableGAN, batch: Batch, real: tf.Tensor, output: GeneratorOutput) -> dict[str, tf.Tensor]:
    """Returns the values of the image discriminator on all frames of the stories."""
    count = gan.config.frames
    sentences = tf.reshape(batch["vectors"], [-1, batch["vectors"].shape[-1]])
    h0 = tf.repeat(output.h0, count, axis=0)
    logits = [
        gan.image_discriminator(tf.reshape(frames, [-1, *frames.shape[2:]]), sentences, h0, training=False)
        for frames in (real, output.images)
    ]
    values = _adversarial(gan, "image", *logits)
    sums = {name: tf.reduce_sum(tf.reshape(each, [-1, count]), axis=1) for name, each in values.items()}
    return sums | {"image_accuracy": sums["image_accuracy"] / count}


def _adversarial(gan: TrainableGAN, kind: str, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the losses of a discriminator and against it, without mismatched pairs, and its accuracy, float32 [N]."""
    return {
        f"{kind}_discriminator": gan.discriminator_loss(real_logits, fake_logits, None),
        f"{kind}_generator": gan.generator_loss(fake_logits),
        f"{kind}_accuracy": losses.accuracy(real_logits, fake_logits),
    }


def frame_ssim(real: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Returns the structural similarity of stories, averaged over their frames.

    Args:
        real: float32 [batch, frames, 64, 64, 3] in [-1, 1].
        drawn: float32 of the same shape and range.

    Returns:
        float32 [batch] in [-1, 1].
    """
    first, second = ((frames + 1.0) / 2.0 for frames in (real, drawn))
    values = tf.image.ssim(first, second, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03)
    return tf.reduce_mean(values, axis=1)


def sharpness(real: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Returns the ratio of the mean absolute Laplacian of drawn stories to that of real ones.

    Args:
        real: float32 [batch, frames, 64, 64, 3].
        drawn: float32 of the same shape and range.

    Returns:
        float32 [batch], at least 0; 0 if the real story has no edge.
    """
    drawn_edges, real_edges = _edges(drawn), _edges(real)
    return tf.math.divide_no_nan(drawn_edges, real_edges)


def _edges(frames: tf.Tensor) -> tf.Tensor:
    """Returns the mean absolute 4-neighbour Laplacian of each story, float32 [batch], without the frames' borders."""
    flat = tf.reshape(frames, [-1, IMAGE_SIZE, IMAGE_SIZE, 3])
    kernel = tf.constant(_LAPLACIAN, flat.dtype)[:, :, tf.newaxis, tf.newaxis]
    filtered = tf.nn.depthwise_conv2d(flat, tf.repeat(kernel, 3, axis=2), [1, 1, 1, 1], "VALID")
    return tf.reduce_mean(tf.reshape(tf.abs(filtered), [tf.shape(frames)[0], -1]), axis=1)
