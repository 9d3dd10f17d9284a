"""Reads a pickled `.npy` file without running what is in it.

A pickle may name any function and have it called. Here only what arrays and numbers are made of is let through; a file
that names anything else is refused before it can do anything.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from storygan_tf.errors import DataError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2
    *((module, name) for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar")),
}


class _Forbidden(pickle.UnpicklingError):
    """A name that may not be used."""


class _Unpickler(pickle.Unpickler):
    """Knows dict, list, tuple, str, bytes and numbers by itself, and arrays by `_ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Forbidden(f"{module}.{name}")
        return super().find_class(module, name)


def load_dict(path: Path) -> dict[Any, Any]:
    """Returns the dict that a `.npy` file holds as its only element; byte strings of Python 2 are read as Latin-1.

    Raises:
        DataError: where the file cannot be read, holds something else, or names code to run (which is not run).
    """
    try:
        with path.open("rb") as file:
            value = _load(file)
    except _Forbidden as error:
        raise DataError(
            f"{path}: its pickle names {error}, which could run code and was not run; expected a dict of names to "
            "arrays and nothing else. Do not use a file from someone you do not trust."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    # A damaged pickle raises nearly anything: its instructions are followed until one makes no sense.
    except Exception as error:
        raise DataError(f"{path}: damaged, or no pickled .npy file ({type(error).__name__}: {error}).") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected a dict.")
    return value


def _load(file: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"unknown version {version} of the .npy format")
    _, _, dtype = read_header(file)
    if dtype != np.dtype(object):
        raise ValueError(f"an array of {dtype}, not a pickled one")
    array = _Unpickler(file, encoding="latin1").load()
    return array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
