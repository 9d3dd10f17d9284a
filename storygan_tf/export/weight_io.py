"""Reading a generator's weights from an export, and assigning them to another generator by name.

The names are Keras' variable names without the generator's own name, such as `story_encoder/mu/kernel`. Weights are not
matched by position, because several have the same shape and their order depends on which are trainable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.common.compat import checkpoint_variable_names
from storygan_tf.common.errors import ModelError
from storygan_tf.models.story_generator import StoryGenerator

TRACKED_AS = "generator_variables"
"""Attribute of an export that holds the list of its generator's variables; a prefix of their checkpoint keys."""


def weights_of(generator: StoryGenerator) -> dict[str, np.ndarray]:
    """Returns copies of the weights and moving statistics of a generator by name."""
    return {_name_in_generator(variable.name): variable.numpy() for variable in generator.variables}


def assign_weights(generator: StoryGenerator, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Assigns weights and moving statistics to a generator, cast to the types of its variables.

    Args:
        generator: the generator, which must be built.
        weights: arrays by name, as `weights_of` or `read_weights` returns them.
        source: origin of the weights, for error messages.

    Raises:
        ModelError: if the names or shapes are not those of the generator. No weight is assigned then.
    """
    expected = {_name_in_generator(variable.name): tuple(variable.shape) for variable in generator.variables}
    found = {name: value.shape for name, value in weights.items()}
    if expected != found:
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ModelError(
            f"{source}: its generator differs from the one that this version of storygan builds from its "
            f"configuration; these weights are missing, unknown or of another shape: {', '.join(different[:5])}. "
            "Train or export the model again with this version."
        )
    for variable in generator.variables:
        variable.assign(tf.cast(weights[_name_in_generator(variable.name)], variable.dtype))


def read_weights(version: Path) -> dict[str, np.ndarray]:
    """Returns a generator's weights by name, read from the variables of an export without loading its graph.

    Args:
        version: version directory of the export.

    Returns:
        Arrays by name, as float32 even if the export stores them as float16.

    Raises:
        ModelError: if the weights cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
        return {
            _name_in_generator(name): reader.get_tensor(key).astype(np.float32)
            for key, name in checkpoint_variable_names(reader).items()
            if key.startswith(f"{TRACKED_AS}/")
        }
    # TensorFlow raises many types of errors for damaged files.
    except Exception as error:
        raise ModelError(
            f"model {version}: its weights cannot be read ({type(error).__name__}: {error}); copy it again."
        ) from error


def _name_in_generator(name: str) -> str:
    """Returns a variable's name without the generator's name and without the suffix `:0`."""
    return name.partition("/")[2].removesuffix(":0")
