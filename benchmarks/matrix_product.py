"""Measures how fast this machine multiplies float32 matrices, so that times of different machines can be compared.

.venv/bin/python benchmarks/matrix_product.py
"""

from __future__ import annotations

import time

import tensorflow as tf


def matrix_peak(size: int = 3072, times: int = 3) -> float:
    """Returns the operations a second of a float32 matrix product, the fastest of `times`."""
    matrix = tf.random.stateless_uniform([size, size], seed=[1, 2])
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        tf.matmul(matrix, matrix)[0, 0].numpy()
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken)


if __name__ == "__main__":
    print(f"matrix product: {matrix_peak(times=20) / 1e9:.0f} GFLOP/s")
