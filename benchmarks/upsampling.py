"""Times four forms of nearest upsampling and a 3x3 convolution, forward and backward, side by side.

`python benchmarks/upsampling.py [--batch 96] [--rounds 7] [--xla]`

All forms have the same weights and, except for rounding, the same outputs and gradients. The largest difference to the
first form is printed. The measured blocks are those of the image generator that upsample: by default the three middle
ones of the original code, 4x4x512 to 8x8x256, 8x8x256 to 16x16x128 and 16x16x128 to 32x32x64. A round times every form
once, in an order that rotates from round to round, so that other load on the machine affects all forms.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from storygan_tf.models.layers.upsample_conv import transposed_kernel

Form = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def keras_upsampling(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Applies `UpSampling2D(2)`, then a 3x3 convolution. XLA cannot compile its gradient."""
    return tf.nn.conv2d(tf.keras.layers.UpSampling2D(2)(inputs), kernel, 1, "SAME")


def repeated(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Repeats rows and columns by `tf.repeat`, then applies a 3x3 convolution."""
    return tf.nn.conv2d(tf.repeat(tf.repeat(inputs, 2, axis=1), 2, axis=2), kernel, 1, "SAME")


def transposed(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Applies one transposed convolution of stride 2 with a 4x4 kernel, as `UpsampleConv2D` does."""
    batch, height, width = inputs.shape[:3]
    shape = [batch, 2 * height, 2 * width, kernel.shape[3]]
    return tf.nn.conv2d_transpose(inputs, transposed_kernel(kernel), shape, strides=2, padding="SAME")


def four_phases(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Applies a 2x2 convolution for each of the four pixels of an output cell, joined by `depth_to_space`.

    An output row with an even number is computed from two neighbouring input rows. The first is multiplied by row 0 of
    the kernel and the second by the sum of rows 1 and 2. For an odd row it is the sum of rows 0 and 1, and row 2.
    Columns are computed in the same way.
    """
    sums = (([0], [1, 2]), ([0, 1], [2]))
    padded = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    height, width = inputs.shape[1:3]
    phases = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        summed = tf.stack([tf.stack([_taps(kernel, one, other) for other in sums[column]]) for one in sums[row]])
        window = padded[:, row : row + height + 1, column : column + width + 1]
        phases.append(tf.nn.conv2d(window, summed, 1, "VALID"))
    return tf.nn.depth_to_space(tf.concat(phases, axis=-1), 2)


def _taps(kernel: tf.Tensor, rows: list[int], columns: list[int]) -> tf.Tensor:
    return tf.add_n([kernel[row, column] for row in rows for column in columns])


FORMS: dict[str, Form] = {
    "UpSampling2D + Conv2D": keras_upsampling,
    "tf.repeat + conv2d": repeated,
    "transposed (UpsampleConv2D)": transposed,
    "four phases + depth_to_space": four_phases,
}

Blocks = list[tuple[tf.Tensor, tf.Tensor]]


def make_blocks(batch: int, width: int) -> Blocks:
    """Returns inputs and kernels of the three middle blocks of a generator of `width`."""
    random = np.random.default_rng(0)
    blocks = []
    for depth in range(3):
        size, channels = 4 * 2**depth, width // 2**depth
        inputs = random.normal(size=[batch, size, size, channels])
        kernel = random.normal(size=[3, 3, channels, channels // 2]) / np.sqrt(9 * channels)
        blocks.append((tf.constant(inputs, tf.float32), tf.constant(kernel, tf.float32)))
    return blocks


def make_step(form: Form, blocks: Blocks, xla: bool) -> Callable[[], list[tf.Tensor]]:
    """Returns a function that returns the output of each block and the gradients of its input and kernel."""

    def step() -> list[tf.Tensor]:
        results = []
        for inputs, kernel in blocks:
            with tf.GradientTape() as tape:
                tape.watch([inputs, kernel])
                outputs = form(inputs, kernel)
                loss = 0.5 * tf.reduce_sum(tf.square(outputs))
            results += [outputs, *tape.gradient(loss, [inputs, kernel])]
        return results

    return tf.function(step, jit_compile=xla, autograph=False)


def difference(one: list[tf.Tensor], other: list[tf.Tensor]) -> float:
    """Returns the largest difference of two lists of tensors, relative to the largest value of each tensor."""
    pairs = zip(one, other, strict=True)
    return max(float(tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(a))) for a, b in pairs)


def seconds(step: Callable[[], list[tf.Tensor]]) -> float:
    """Returns the seconds that one step takes until its results are available."""
    began = time.perf_counter()
    _ = [result.numpy().shape for result in step()]
    return time.perf_counter() - began


def measure(blocks: Blocks, rounds: int, xla: bool) -> list[tuple[str, float, float, float]]:
    """Returns name, median seconds, fastest seconds and difference of each form that can be compiled."""
    steps = {name: make_step(form, blocks, xla) for name, form in FORMS.items()}
    reference = make_step(keras_upsampling, blocks, xla=False)()
    differences = {}
    for name in list(steps):
        try:
            differences[name] = difference(reference, steps[name]())  # also compiles
        except tf.errors.OpError as error:
            print(f"{name}: cannot be compiled: {_missing_operation(error.message)}")
            del steps[name]
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        names = list(steps)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(seconds(steps[name]))
    return [(name, statistics.median(times[name]), min(times[name]), differences[name]) for name in steps]


def _missing_operation(message: str) -> str:
    found = re.search(r"No registered '\w+' OpKernel for \w+", message)
    return found[0] if found else message.splitlines()[0]


def print_table(rows: list[tuple[str, float, float, float]]) -> None:
    """Prints a Markdown table; a ratio is the median divided by that of the first form."""
    print("| form | median s | fastest s | ratio | difference |\n|---|---|---|---|---|")
    for name, median, fastest, distance in rows:
        print(f"| {name} | {median:.3f} | {fastest:.3f} | {median / rows[0][1]:.2f} | {distance:.0e} |")


def main() -> None:
    """Measures all forms without XLA and, with `--xla`, also with XLA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=96, help="frames a step (default: 96, 24 stories of 4)")
    parser.add_argument("--width", type=int, default=512, help="channels of the generator's first block (default: 512)")
    parser.add_argument("--rounds", type=int, default=7, help="times that each form is timed (default: 7)")
    parser.add_argument("--xla", action="store_true", help="measure with jit_compile=True too")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")  # hides the warning that each form is traced again
    blocks = make_blocks(arguments.batch, arguments.width)
    for xla in (False, True) if arguments.xla else (False,):
        print(f"\n{'XLA' if xla else 'no XLA'}, batch {arguments.batch}, width {arguments.width}:")
        print_table(measure(blocks, arguments.rounds, xla))


if __name__ == "__main__":
    main()
