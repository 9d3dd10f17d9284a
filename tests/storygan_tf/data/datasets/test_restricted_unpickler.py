"""Only plain values are loaded from pickles, in any protocol, and nothing that a pickle names is called."""

from __future__ import annotations

import collections
import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.restricted_unpickler import load_dict, load_npy, load_pickle

PLAIN = {
    "none": None,
    "numbers": [1, -(10**30), 2.5, True, 1 + 2j],
    "texts": ("caf\xe9", b"\xe9", b"", ""),
    "sets": [{1, 2}, frozenset(["a"])],
    "scalars": [np.float32(2.5), np.int64(3), np.bool_(True), np.str_("a"), np.bytes_(b"b")],
}

ARRAYS = {
    "floats": np.arange(6.0).reshape(2, 3),
    "Fortran's": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "a number": np.array(3.5),
    "none": np.zeros([0, 4]),
    "bytes": np.array([b"ab", b"c"]),
    "texts": np.array(["ab", "\u96ea"]),
    "objects": np.array([[1, "a", None]], dtype=object),
    "lists": np.array([{"a": [1, 2]}, None], dtype=object),
    "truths": np.array([True, False]),
}


def pickled(path, value, protocol=None):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_loaded_unchanged(tmp_path, protocol):
    assert load_dict(pickled(tmp_path / "x.pkl", PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_loaded_unchanged(tmp_path, name, protocol):
    loaded = load_pickle(pickled(tmp_path / "x.pkl", ARRAYS[name], protocol))
    np.testing.assert_array_equal(np.asarray(loaded), ARRAYS[name])
    assert loaded.dtype.newbyteorder("=") == ARRAYS[name].dtype.newbyteorder("=")


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_loaded_from_npy_files(tmp_path, name):
    np.save(tmp_path / "x.npy", ARRAYS[name], allow_pickle=True)
    np.testing.assert_array_equal(np.asarray(load_npy(tmp_path / "x.npy")), ARRAYS[name])


class Calls:
    """Is pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("ending", [".pkl", ".npy"])
def test_no_code_runs(tmp_path, protocol, ending):
    path, value = tmp_path / f"x{ending}", {"a": [Calls(os.mkdir, str(tmp_path / "touched"))]}
    content = pickle.dumps(value, protocol=protocol)
    if ending == ".npy":
        np.save(path, np.array({}, dtype=object), allow_pickle=True)
        content = path.read_bytes().partition(b"\n")[0] + b"\n" + content
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"its pickle names (posix|nt)\.mkdir, which could run code and was not run"):
        load_dict(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict(a=1),
        collections.Counter("a"),
        np.dtype([("a", int)]),
        Calls(getattr, "a", "upper"),
        Calls(eval, "1"),
        Calls(bytearray, 3),
        np.load,
        np.datetime64("2020-01-01"),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.ma.masked_array([1]),
        range(3),
        slice(3),
    ],
)
def test_other_values_are_refused(tmp_path, value):
    with pytest.raises(DataError, match=r"x\.pkl: (its pickle names|damaged)"):
        load_pickle(pickled(tmp_path / "x.pkl", value))


ARRAY_STATE = np.zeros(2).__reduce__()
"""_reconstruct, its arguments, and the state: version, shape, type, order, content."""


@pytest.mark.parametrize(
    "state",
    [
        (1, (2,), np.dtype(object), False, b"\1" * 16),  # addresses
        (1, (2,), np.dtype(object), False, [1]),
        (1, (2,), np.dtype("f8"), False, b"\1" * 15),
        (1, (2,), np.dtype("f8"), False, b"\1" * 17),
        (1, (10**12,), np.dtype("f8"), False, b"\1" * 16),
        (1, (-2,), np.dtype("f8"), False, b"\1" * 16),
        (1, (2,), "f8", False, b"\1" * 16),
        (1, (2,), np.dtype("f8"), False, None),
        (1, "ab", np.dtype("f8"), False, b"\1" * 16),
        (1,),
    ],
)
def test_the_content_of_an_array_must_fill_its_shape(tmp_path, state):
    class Crafted:
        def __reduce__(self):
            return (*ARRAY_STATE[:2], state)

    with pytest.raises(DataError, match="damaged"):
        load_pickle(pickled(tmp_path / "x.pkl", Crafted()))


def test_a_crafted_type_cannot_turn_bytes_into_addresses(tmp_path):
    """numpy's own `dtype` reads from its state whether an array holds objects, and then trusts any address."""

    class Crafted:
        def __reduce__(self):
            return np.dtype, ("O", False, True), (3, "|", None, None, None, 8, 8, 0)

    class Array:
        def __reduce__(self):
            return (*ARRAY_STATE[:2], (1, (2,), Crafted(), False, b"\1" * 16))

    with pytest.raises(DataError, match="damaged"):
        load_pickle(pickled(tmp_path / "x.pkl", Array()))


@pytest.mark.parametrize("content", [b"r\xff\xff\xff\x0f.", b"N" + b"p4000000000\n.", b"\x80\x04\x8e" + b"\xff" * 8])
def test_a_pickle_cannot_allocate_all_memory(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(b"N" + content)
    with pytest.raises(DataError, match="damaged"):
        load_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("content", [b"", b".", b"hello", b"\x80\x04", b"(" * 10_000, b"]" * 10_000 + b"."])
def test_a_damaged_pickle_is_reported(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pkl: (damaged|holds)"):
        load_dict(tmp_path / "x.pkl")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("save", [np.save, lambda path, texts: pickled(path, texts, 2)], ids=["npy", "pickle"])
def test_numbers_that_are_no_characters_are_reported(tmp_path, order, save):
    path = tmp_path / ("x.npy" if save is np.save else "x.pkl")
    texts = np.array([0x61, 0x110000], f"{order}u4").view(f"{order}U1")
    save(path, texts)
    with pytest.raises(DataError, match="numbers that are no characters"):
        load_npy(path) if path.suffix == ".npy" else load_pickle(path)


@pytest.mark.parametrize(
    "content", [b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR.", b"(lc__builtin__\nset\na.", b"}(S'a'\ncnumpy\ndtype\nu."]
)
def test_the_replacement_of_a_type_is_not_returned(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pkl: damaged, or no pickle of plain containers"):
        load_pickle(tmp_path / "x.pkl")


def test_a_list_that_contains_itself_is_loaded(tmp_path):
    value = [1]
    value.append(value)
    pickled(tmp_path / "x.pkl", value, 2)
    assert load_pickle(tmp_path / "x.pkl")[1][0] == 1


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"x\.pkl: cannot be read \(No such file"):
        load_pickle(tmp_path / "x.pkl")


def test_records_of_objects_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([("a", 1)], dtype=[("a", object), ("b", int)]), allow_pickle=True)
    with pytest.raises(DataError, match="records that hold objects"):
        load_npy(tmp_path / "x.npy")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_mutated_pickle_gives_plain_values_or_an_error(tmp_path_factory, data):
    buffer = io.BytesIO()
    np.save(buffer, np.array(PLAIN | {"array": np.arange(3.0)}, dtype=object), allow_pickle=True)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.npy"
    path.write_bytes(content)
    try:
        value = load_npy(path)
    except DataError:
        return
    assert is_plain(value)


def is_plain(value):
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | bytes | int | float | complex | np.ndarray | np.generic)
