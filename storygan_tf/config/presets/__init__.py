"""Presets: one typed Python file each, with its command, time and score in its docstring."""

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
        ConfigError: where there is no such preset; the message lists those there are.
    """
    if name not in names():
        raise ConfigError(f"no preset {name!r}{nearest(name, names())} (there are: {', '.join(names())}).")
    settings: Settings = importlib.import_module(f"{__name__}.{name}").SETTINGS
    return settings
