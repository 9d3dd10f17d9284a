"""Presets: named settings, one module each.

A module's docstring has the command that runs the preset, the time it takes and the scores it reaches. Start with
`quick`. `storygan_tf.config.schema` describes every setting.
"""

from __future__ import annotations

import importlib
import pkgutil

from storygan_tf.common.errors import ConfigError, nearest
from storygan_tf.config.schema import Settings


def names() -> list[str]:
    """Returns the names of all presets, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Settings:
    """Returns the settings of preset `name`.

    Raises:
        ConfigError: if there is no such preset. The message lists all presets.
    """
    if name not in names():
        raise ConfigError(f"no preset {name!r}{nearest(name, names())} (there are: {', '.join(names())}).")
    settings: Settings = importlib.import_module(f"{__name__}.{name}").SETTINGS
    return settings
