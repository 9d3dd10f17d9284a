"""`load_pickle`, `load_npy` and `load_dict`: load pickles of published data sets without running code.

A pickle can name any function and have it called. The unpickler here accepts only plain containers, numbers, strings,
bytes and numpy arrays; a file that names anything else is refused before anything is called. Arrays are built here and
not by numpy's own functions, because those trust what a pickle says about an array's type, and a crafted pickle could
make numpy use bytes as memory addresses.
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

_EXPECTED = "plain containers, numbers, strings and arrays"

_PLAIN = (str, bytes, bytearray, int, float, complex, np.generic)

_TYPE_CODE = re.compile("[?]|[biufcSUO][0-9]*")
"""Types of arrays that are accepted: booleans, numbers, byte strings, strings and objects."""


class _Forbidden(pickle.UnpicklingError):
    """A pickle names a function or class that is not in `_ALLOWED`."""


class _Type:
    """Replaces `numpy.dtype` while a pickle is loaded.

    Args:
        code: code of the type, such as `f8`.

    Attributes:
        real: the numpy type.
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
    """An array that accepts a pickled state only if its shape, type and content fit each other."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        super().__setstate__((1, *_array_parts(shape, kind, fortran, content)))


def _array_parts(shape: Any, kind: Any, fortran: Any, content: Any) -> tuple[Any, ...]:
    """Checks the pickled parts of an array.

    Args:
        shape: sides of the array: a tuple, or a number for one side.
        kind: the type, a `_Type`.
        fortran: whether the content is in Fortran's order.
        content: bytes, text in Latin-1, or a list of objects.

    Returns:
        (shape, numpy type, whether in Fortran's order, content).

    Raises:
        ValueError: if a part is not of the expected type, or the content does not fill the shape.
    """
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
    """Raises ValueError if a string array contains numbers that are no characters, because Python cannot decode it."""
    if (np.frombuffer(content, f"{real.byteorder}u4") > sys.maxunicode).any():
        raise ValueError("an array of strings with numbers that are no characters")


def _new_array(*_: Any) -> _Array:
    """Replaces `numpy.core.multiarray._reconstruct`: returns an empty array; the pickle sets its state afterwards."""
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(kind: Any, content: Any = None) -> Any:
    """Replaces `numpy.core.multiarray.scalar`: returns a numpy number."""
    _, real, _, plain = _array_parts((), kind, False, content)
    if real.hasobject:
        raise ValueError("an object as a number")
    return np.frombuffer(plain, real)[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Replaces `numpy.core.numeric._frombuffer`, with which protocol 5 stores arrays."""
    sides, real, fortran, plain = _array_parts(shape, kind, order == "F", content)
    if real.hasobject:
        raise ValueError("objects in a buffer")
    return np.frombuffer(plain, real).reshape(sides, order="F" if fortran else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Replaces `_codecs.encode`, with which Python 3 stores bytes in protocols that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Replaces `bytes`, which protocols before 3 call without arguments for an empty byte string."""
    return b""


def _array_class() -> None:
    """Replaces `numpy.ndarray`, which a valid pickle only passes to `_reconstruct` and never calls."""
    raise ValueError("an array without content")


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """Returns the names that a pickle may use, as (module, name), and the function that replaces each."""
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
    """Unpickler that resolves names only through `_ALLOWED`; plain containers and numbers need no names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Forbidden(f"{module}.{name}")
        return _ALLOWED[module, name]


def load_pickle(path: Path) -> Any:
    """Returns the content of a `.pkl` file; byte strings of Python 2 are decoded as Latin-1.

    Raises:
        DataError: if the file cannot be read, is damaged, or names a function that is not allowed. It is not called.
    """
    return _load(path, _unpickle, "pickle")


def load_npy(path: Path) -> Any:
    """Returns the content of a `.npy` file: an array, or the object if the file holds a single pickled one.

    Raises:
        DataError: if the file cannot be read, is damaged, or names a function that is not allowed. It is not called.
    """
    return _load(path, _parse_npy, ".npy file")


def load_dict(path: Path) -> dict[Any, Any]:
    """Returns the dict that a file holds: the only element of a `.npy` file, or the content of a pickle.

    Raises:
        DataError: if the file cannot be read, is damaged, names a function that is not allowed, or holds no dict.
    """
    value = load_npy(path) if path.suffix == ".npy" else load_pickle(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {_kind(value)}, expected a dict.")
    return value


def _kind(value: Any) -> str:
    """Returns the type of a value in words, for error messages."""
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _load(path: Path, parse: Callable[[bytes], Any], file_kind: str) -> Any:
    """Returns `parse` of a file's content; raises DataError if the file cannot be read or parsed."""
    try:
        return parse(path.read_bytes())
    except _Forbidden as error:
        raise DataError(
            f"{path}: its pickle names {error}, which could run code and was not run; expected {_EXPECTED}. Do not use "
            "files from people you do not trust."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    # A damaged pickle can raise nearly any exception: its instructions are executed until one is invalid.
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or no {file_kind} of {_EXPECTED} ({type(error).__name__}: {error}). Copy it again."
        ) from error


def _unpickle(content: bytes) -> Any:
    """Returns the plain value that a pickle holds."""
    _check_memo(content)
    value = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    _check_plain(value)
    return value


def _check_plain(value: Any) -> None:
    """Raises ValueError if a value contains a replacement of this module, as a damaged pickle that ends early may."""
    remaining, checked = [value], set()
    while remaining:
        item = remaining.pop()
        if item is None or isinstance(item, _PLAIN) or id(item) in checked:
            continue
        checked.add(id(item))
        if isinstance(item, dict):
            remaining += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            remaining += item
        elif not isinstance(item, np.ndarray):
            raise ValueError(f"a {type(item).__name__.lstrip('_')}")
        elif item.dtype.hasobject:
            remaining += item.ravel().tolist()


def _check_memo(content: bytes) -> None:
    """Raises ValueError if a memo index exceeds the pickle's size: Python allocates memory for all smaller indices."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError("a pickle that requests more memory than it can need")


def _parse_npy(content: bytes) -> Any:
    """Returns the content of a `.npy` file: an array, or the object if it holds a single pickled one."""
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
