"""StoryGAN (Li et al., CVPR 2019, arXiv:1812.02784): a sequence of pictures for a sequence of sentences.

The public names are loaded on first use, so that importing this package, and `storygan --help`, take no TensorFlow.

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

_HOMES = {
    "PhaseConfig": "storygan_tf.config.schema",
    "Settings": "storygan_tf.config.schema",
    "StoryGAN": "storygan_tf.training.storygan",
    "StoryGANConfig": "storygan_tf.config.schema",
    "TrainConfig": "storygan_tf.config.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
