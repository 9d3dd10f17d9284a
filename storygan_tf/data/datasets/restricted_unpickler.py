"""Reads pickles, `.npy` and `.pkl` alike, without running what is in them.

A pickle may name any function and have it called. Here only plain containers, numbers, strings, bytes and numpy arrays
come out; a file that names anything else is refused before it can do anything. Arrays are put together here, not by
numpy's own functions: those believe what a pickle says of an array's type, and would take bytes for addresses.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storygan_tf.common.errors import DataError

_EXPECTED = "plain containers, numbers, strings and arrays and nothing else"

_PLAIN = (str, bytes, bytearray, int, float, complex, np.generic)

_TYPE_CODE = re.compile("[?]|[biufcSUO][0-9]*")
"""Types of arrays that are let through: truth values, numbers, byte strings, strings, objects."""


class _Forbidden(pickle.UnpicklingError):
    """A name that may not be used."""


class _Type:
    """Stands for `numpy.dtype` while a pickle is read.

    Args:
        code: such as `f8`.
    """

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _TYPE_CODE.fullmatch(text):
            raise ValueError("an array of a type that is not plain")
        self.real = np.dtype(object if text.startswith("O") else text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if any(part is not None for part in state[2:5]):
            raise ValueError("an array of records")
        self.real = self.real.newbyteorder(order)


class _Array(np.ndarray):
    """An array that takes only a state that fits it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        super().__setstate__((1, *_array_parts(shape, kind, fortran, content)))


def _array_parts(shape: Any, kind: Any, fortran: Any, content: Any) -> tuple[Any, ...]:
    """Returns an array's shape, type, order and content, if they fit each other."""
    sides = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(kind, _Type) or not all(isinstance(side, int) and side >= 0 for side in sides):
        raise ValueError("an array without type or shape")
    count = 1
    for side in sides:
        count *= side
    plain = content.encode("latin1") if isinstance(content, str) else content
    if kind.real.hasobject:
        fits = isinstance(plain, list) and len(plain) == count
    else:
        fits = isinstance(plain, bytes | bytearray) and len(plain) == count * kind.real.itemsize
    if not fits:
        raise ValueError("an array whose content does not fill its shape")
    if kind.real.kind == "U":
        _check_characters(plain, kind.real)
    return sides, kind.real, bool(fortran), plain


def _check_characters(content: bytes, real: np.dtype) -> None:
    """Refuses strings of numbers that are no characters: numpy would hand them out, and Python fail on them later."""
    if (np.frombuffer(content, f"{real.byteorder}u4") > sys.maxunicode).any():
        raise ValueError("an array of strings with what are no characters")


def _new_array(*_: Any) -> _Array:
    """Stands for `numpy.core.multiarray._reconstruct`: an empty array, whose state follows."""
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(kind: Any, content: Any = None) -> Any:
    """Stands for `numpy.core.multiarray.scalar`."""
    _, real, _, plain = _array_parts((), kind, False, content)
    if real.hasobject:
        raise ValueError("an object as a number")
    return np.frombuffer(plain, real)[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Stands for `numpy.core.numeric._frombuffer`, by which protocol 5 writes arrays."""
    sides, real, fortran, plain = _array_parts(shape, kind, order == "F", content)
    if real.hasobject:
        raise ValueError("objects in a buffer")
    return np.frombuffer(plain, real).reshape(sides, order="F" if fortran else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes by way of {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for `bytes`, which protocols before 3 call without arguments for an empty string."""
    return b""


def _array_class() -> None:
    """Stands for `numpy.ndarray`, which is only ever handed to `_reconstruct`."""
    raise ValueError("an array without content")


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _array_class,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
    }
    for package in ("numpy.core", "numpy._core"):
        names |= {
            (f"{package}.multiarray", "_reconstruct"): _new_array,
            (f"{package}.multiarray", "scalar"): _scalar,
            (f"{package}.numeric", "_frombuffer"): _from_buffer,
        }
    for module in ("builtins", "__builtin__"):
        names |= {
            (module, "bytes"): _no_bytes,
            (module, "complex"): complex,
            (module, "set"): set,
            (module, "frozenset"): frozenset,
        }
    return names


_ALLOWED = _allowed()


class _Unpickler(pickle.Unpickler):
    """Knows dict, list, tuple, str, bytes and numbers by itself, and the rest by `_ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Forbidden(f"{module}.{name}")
        return _ALLOWED[module, name]


def load_pickle(path: Path) -> Any:
    """Returns what a `.pkl` file holds; byte strings of Python 2 are read as Latin-1.

    Raises:
        DataError: where the file cannot be read, is damaged, or names code to run (which is not run).
    """
    return _guarded(path, _unpickle, "pickle")


def load_npy(path: Path) -> Any:
    """Returns what a `.npy` file holds: a plain array, or whatever was pickled into it, a single element by itself.

    Raises:
        DataError: as `load_pickle`.
    """
    return _guarded(path, _parse_npy, ".npy file")


def load_dict(path: Path) -> dict[Any, Any]:
    """Returns the dict that a file holds: a `.npy` file as its only element, any other file as a pickle.

    Raises:
        DataError: as `load_pickle`, and where the file holds something else.
    """
    value = load_npy(path) if path.suffix == ".npy" else load_pickle(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {_kind(value)}, expected a dict.")
    return value


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _guarded(path: Path, parse: Callable[[bytes], Any], what: str) -> Any:
    try:
        return parse(path.read_bytes())
    except _Forbidden as error:
        raise DataError(
            f"{path}: its pickle names {error}, which could run code and was not run; expected {_EXPECTED}. Do not use "
            "a file from someone you do not trust."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    # A damaged pickle raises nearly anything: its instructions are followed until one makes no sense.
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or no {what} of {_EXPECTED} ({type(error).__name__}: {error}). Copy it again."
        ) from error


def _unpickle(content: bytes) -> Any:
    _check_memo(content)
    value = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    _check_plain(value)
    return value


def _check_plain(value: Any) -> None:
    """Refuses what a damaged pickle leaves of its making: one that ends early may give what stands for a type."""
    left, seen = [value], set()
    while left:
        item = left.pop()
        if item is None or isinstance(item, _PLAIN) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            left += item
        elif not isinstance(item, np.ndarray):
            raise ValueError(f"a {type(item).__name__.lstrip('_')}")
        elif item.dtype.hasobject:
            left += item.ravel().tolist()


def _check_memo(content: bytes) -> None:
    """Refuses a place to remember a value at that no honest pickle needs: Python makes room for all before it."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError("a pickle that asks for more memory than it can need")


def _parse_npy(content: bytes) -> Any:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"unknown version {version} of the .npy format")
    _, _, dtype = read_header(file)
    if dtype.hasobject and dtype != np.dtype(object):
        raise ValueError("an array of records that hold objects")
    if dtype != np.dtype(object):
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        if dtype.kind == "U":
            _check_characters(array.tobytes(), dtype)
        return array
    value = _unpickle(content[file.tell() :])
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
