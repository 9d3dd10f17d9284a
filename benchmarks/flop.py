"""Counts the floating-point operations of layers and of training steps, by the shapes of their multiplications.

A multiplication and the addition that follows it count as two operations. Convolutions, transposed convolutions and
matrix products count with all their taps, including those on the padding. Everything else (normalisation, activations,
losses, Adam) does not count: it takes time, but hardly any multiplications. So a layer's forward pass, the gradient of
its input and the gradient of its weights cost the same. The gradient of an input that is data costs nothing, because it
is never computed. Upsampling with a 3x3 convolution counts as one transposed convolution of stride 2 with a 4x4 kernel,
which costs as much as four 2x2 convolutions of the small map: 16 taps per input pixel instead of 36.

`executed` counts the operations of a traced function; `needed` computes the minimum that a step of a schedule needs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig, StoryGANConfig
from storygan_tf.training.storygan import StoryGAN


class Passes(NamedTuple):
    """Operations of one part of the networks, for one story or frame.

    Attributes:
        forward: operations of a forward pass.
        update: operations of a forward pass and of the gradients of its weights and of those inputs that are not data.
        through: operations of a forward pass and of the gradient of its pictures, as a discriminator has in the
            generator's update.
    """

    forward: int
    update: int
    through: int


def executed(function: Any) -> int:
    """Returns the operations of a traced function.

    Args:
        function: a `tf.types.experimental.ConcreteFunction` with static shapes, without XLA and control flow. Nodes
            that no result and no side effect depends on are left out, as they are when the function runs.

    Raises:
        ValueError: if a multiplication has an unknown shape or is of a kind that has no rule here.
    """
    return _executed(function.graph, function.graph.outputs)


def _executed(graph: tf.Graph, results: Iterable[tf.Tensor]) -> int:
    """Returns the operations that the given results and the side effects of a function's graph need, see `executed`."""
    pending = [tensor.op for tensor in results] + list(graph.control_outputs)
    reached: set[tf.Operation] = set()
    while pending:
        operation = pending.pop()
        if operation not in reached:
            reached.add(operation)
            pending += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    _refuse_hidden_multiplications(reached, graph.as_graph_def().library.function)
    return sum(operations(operation) for operation in reached)


def operations(node: tf.Operation) -> int:
    """Returns the operations of one node of a graph; 0 if it does not multiply matrices."""
    return 2 * _RULES[node.type](node) if node.type in _RULES else 0


def _refuse_hidden_multiplications(nodes: Iterable[tf.Operation], functions: Iterable[Any]) -> None:
    """Raises ValueError for a multiplication without a rule, or in a function, which a loop may call many times."""
    inside = {function.signature.name: {node.op for node in function.node_def} for function in functions}
    for node in nodes:
        values = node.node_def.attr.values()
        called = [value.func.name for value in values] + [func.name for value in values for func in value.list.func]
        kinds = {node.type}.union(*(inside.get(name, ()) for name in called)) - ({node.type} & set(_RULES))
        hidden = sorted(filter(_MULTIPLIES.search, kinds))
        if hidden:
            raise ValueError(
                f"operation {node.name}: found {', '.join(hidden)}, expected multiplications outside of functions, of "
                f"{', '.join(_RULES)}."
            )


def _shape(tensor: tf.Tensor) -> list[int]:
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"tensor {tensor.name}: found shape {tensor.shape}, expected one with all sizes known.")
    return tensor.shape.as_list()


def _convolution(kernel: list[int], small: list[int]) -> int:
    """Returns the multiplications of a kernel [h, w, in, out] with each pixel of the smaller map [N, h, w, out]."""
    return math.prod(small[:3]) * math.prod(kernel)


def _product(operation: tf.Operation, transposed: str) -> int:
    left, right = (_shape(tensor) for tensor in operation.inputs)
    columns = right[-2] if operation.get_attr(transposed) else right[-1]
    return math.prod(left) * columns


def _einsum(operation: tf.Operation) -> int:
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        sizes |= dict(zip(term, _shape(tensor), strict=True))
    return math.prod(sizes.values()) if len(terms) > 1 else 0


_RULES: dict[str, Callable[[tf.Operation], int]] = {
    "Conv2D": lambda op: _convolution(_shape(op.inputs[1]), _shape(op.outputs[0])),
    "Conv2DBackpropInput": lambda op: _convolution(_shape(op.inputs[1]), _shape(op.inputs[2])),
    "Conv2DBackpropFilter": lambda op: _convolution(_shape(op.outputs[0]), _shape(op.inputs[2])),
    "MatMul": lambda op: _product(op, "transpose_b"),
    "BatchMatMulV2": lambda op: _product(op, "adj_y"),
    "Einsum": _einsum,
}
"""Multiplications of each kind of node. A transposed convolution is a `Conv2DBackpropInput`."""

_MULTIPLIES = re.compile("Conv|MatMul|Einsum")


def step_executed(gan: StoryGAN, data: tf.data.Dataset, phase: PhaseConfig) -> int:
    """Returns the operations that one outer step of training executes.

    Args:
        gan: the model, compiled for the phase.
        data: dataset of `training_dataset`; only its `element_spec` is used.
        phase: configuration of the phase.
    """
    sizes = {"image": phase.image_batch, "story": phase.story_batch}

    def full_batch(stream: str) -> Any:
        return tf.nest.map_structure(
            lambda spec: tf.TensorSpec([sizes[stream], *spec.shape[1:]], spec.dtype), data.element_spec[stream]
        )

    step = tf.function(gan.train_step, autograph=False)
    return executed(step.get_concrete_function({stream: full_batch(stream) for stream in data.element_spec}))


def parts(config: StoryGANConfig) -> dict[str, Passes]:
    """Returns the cost of each part of the networks, without spectral normalisation and labels.

    Keys: `context` (the recurrent part, per story), `picture` (the image generator, per frame), `image_discriminator`
    (per frame), `story_discriminator` (per story).
    """
    return _parts(dataclasses.replace(config, spectral_norm=False, labels=0))


@functools.lru_cache
def _parts(config: StoryGANConfig) -> dict[str, Passes]:
    gan = StoryGAN(config)
    generator, picture = gan.generator, gan.generator.image_generator
    vectors = [1, config.frames, config.sentence_size]
    sentence, state, frame = [1, config.sentence_size], [1, config.context_size], [1, IMAGE_SIZE, IMAGE_SIZE, 3]
    frames = [1, config.frames, *frame[1:]]
    context_weights = [*generator.story_encoder.trainable_variables, *generator.context_encoder.trainable_variables]
    return {
        "context": _passes(lambda inputs: generator.encode(inputs[0], training=True).gists, context_weights, [vectors]),
        "picture": _passes(
            lambda inputs: picture(*inputs, training=True), picture.trainable_variables, [state], gists=True
        ),
        "image_discriminator": _passes(
            lambda inputs: gan.image_discriminator(*inputs, training=True),
            gan.image_discriminator.trainable_variables,
            [frame, sentence, state],
        ),
        "story_discriminator": _passes(
            lambda inputs: gan.story_discriminator(*inputs, training=True),
            gan.story_discriminator.trainable_variables,
            [frames, vectors],
        ),
    }


def _passes(
    call: Callable[[list[tf.Tensor]], tf.Tensor], weights: list[Any], shapes: list[list[int]], gists: bool = False
) -> Passes:
    """Returns the operations of a part's passes; with `gists`, its update includes the gradient of its first input.

    A graph with all gradients is traced once. Each pass needs a part of it.
    """

    def traced(*inputs: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = call(list(inputs))
        return outputs, tape.gradient(outputs, [weights, inputs])

    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(traced, autograph=False).get_concrete_function(*specs).graph
    outputs, (of_weights, of_inputs) = graph.structured_outputs
    return Passes(
        forward=_executed(graph, [outputs]),
        update=_executed(graph, [outputs, *of_weights, *of_inputs[:gists]]),
        through=_executed(graph, [outputs, *of_inputs[:1]]),
    )


def needed(config: StoryGANConfig, phase: PhaseConfig) -> int:
    """Returns the operations that one outer step of a phase needs if nothing is computed twice.

    The discriminator's update and the generator's share one pass of the generator; a frame passes a trunk once per
    network update; weights that are not updated have no gradient. Only the paper's loss terms count, not mismatched
    pairs, labels, feature matching and R1.
    """
    part = parts(config)
    context, picture = part["context"].update, part["picture"].update
    image, story = part["image_discriminator"], part["story_discriminator"]
    frames = config.frames if phase.image_frames == "all" else 1
    image_drawn, story_drawn = context + frames * picture, context + config.frames * picture
    if phase.schedule == "pixel":
        return phase.story_steps * phase.story_batch * story_drawn
    if phase.schedule == "algorithm1":
        images = phase.image_steps * phase.image_batch * (image_drawn + frames * (2 * image.update + image.through))
        return images + phase.story_steps * phase.story_batch * (story_drawn + 2 * story.update + story.through)
    generator = phase.generator_steps * (image_drawn + frames * image.through)
    images = phase.image_batch * (2 * frames * image.update + generator)
    return images + phase.story_batch * (2 * story.update + phase.generator_steps * (story_drawn + story.through))
