"""The base class of the callbacks of a training."""

from __future__ import annotations

import keras

from storygan_tf.common.compat import accept_tensors_as_logs
from storygan_tf.training.session import TrainingSession


class SessionCallback(keras.callbacks.Callback):
    """A callback of `StoryGAN.fit` that knows the training it belongs to.

    Args:
        session: the training.
    """

    def __init__(self, session: TrainingSession) -> None:
        super().__init__()
        self.session = session
        accept_tensors_as_logs(self)
