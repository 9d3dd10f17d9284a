"""StoryGAN (Li et al., CVPR 2019, arXiv:1812.02784) generates one picture for each sentence of a story.

This package is the library: networks, training, export and evaluation, without command line, TFX or server. Its
packages import only themselves and those before them in this list:

- `common`: errors, progress, atomic files, paths of models.
- `config`: all settings, and presets.
- `data`: data sets, records, mini-batches.
- `text`: sentence encoders.
- `models`: generator, discriminators, their layers and loss functions.
- `metrics`: scores of generated frames, such as SSIM and Frechet distances.
- `export`: SavedModels with their signatures, and the models that ship with the package.
- `training`: objectives, training steps, checkpoints and the training loop.
- `evaluation`: compares a model with baselines, and decides whether it may be served.
- `reporting`: reports and model cards from the results of an evaluation.

To read the model, start with `models.story_generator` and `training.storygan`. All settings of a run are described in
`config.schema`. The public names below are loaded on first use, so that importing this package does not load
TensorFlow.

Example:
    >>> import storygan_tf
    >>> model = storygan_tf.StoryGAN(storygan_tf.StoryGANConfig(frames=4))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig
    from storygan_tf.training.storygan import StoryGAN

__version__ = "0.1.0"

__all__ = ["PhaseConfig", "Settings", "StoryGAN", "StoryGANConfig", "TrainConfig", "__version__"]

_DEFINED_IN = {
    "PhaseConfig": "storygan_tf.config.schema",
    "Settings": "storygan_tf.config.schema",
    "StoryGAN": "storygan_tf.training.storygan",
    "StoryGANConfig": "storygan_tf.config.schema",
    "TrainConfig": "storygan_tf.config.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_DEFINED_IN[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
