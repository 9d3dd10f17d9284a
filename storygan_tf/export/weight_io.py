"""A generator's weights by name: read from an export, copied into another generator.

The names are those of Keras without the generator's own, such as `story_encoder/mu/kernel`. By name and not by
position: several weights have the same shape, and their order depends on what is trainable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from storygan_tf.common.errors import ModelError
from storygan_tf.models.story_generator import StoryGenerator

TRACKED_AS = "generator_variables"
"""What an export calls the list of its generator's variables."""

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def weights_of(generator: StoryGenerator) -> dict[str, np.ndarray]:
    """Returns the weights and moving statistics of a generator."""
    return {_short(variable.name): variable.numpy() for variable in generator.variables}


def assign_weights(generator: StoryGenerator, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Sets the weights and moving statistics of a generator, which was built before.

    Args:
        generator: whose they become, cast to the type in which it keeps them.
        weights: as of `weights_of` or `read_weights`.
        source: where they come from, for errors.

    Raises:
        ModelError: where names or shapes are not those of the generator; nothing was set then.
    """
    wanted = {_short(variable.name): tuple(variable.shape) for variable in generator.variables}
    found = {name: value.shape for name, value in weights.items()}
    if wanted != found:
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ModelError(
            f"{source}: its generator is another than this version of storygan builds of its configuration; these "
            f"weights are missing, too many or of another shape: {', '.join(different[:5])}."
        )
    for variable in generator.variables:
        variable.assign(tf.cast(weights[_short(variable.name)], variable.dtype))


def read_weights(version: Path) -> dict[str, np.ndarray]:
    """Reads a generator's weights from an export, without its graph: float32, also where they are kept as float16.

    Args:
        version: version directory.

    Raises:
        ModelError: where they cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
        names = {saved.checkpoint_key: saved.full_name for node in graph.nodes for saved in node.attributes}
        return {
            _short(name): reader.get_tensor(key).astype(np.float32)
            for key, name in names.items()
            if key.startswith(f"{TRACKED_AS}/")
        }
    # TensorFlow raises nearly anything for damaged files.
    except Exception as error:
        raise ModelError(
            f"model {version}: its weights cannot be read ({type(error).__name__}: {error}); copy it again."
        ) from error


def _short(name: str) -> str:
    return name.partition("/")[2].removesuffix(":0")
