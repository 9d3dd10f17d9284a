"""`mutate`: damages a data set by a seed: its bytes, its files or the entries of its tables. See `fuzz_program.py`."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from storygan_tf.data.datasets.restricted_unpickler import load_npy, load_pickle

TEXTS = (
    "",
    " \t\u3000",
    "\u200b\u200f",
    "x" * 10_000,
    "bell\x07",
    "half \ud83d",
    "🟥 is red 👩‍👩‍👧",
    "مكعب أحمر",
    "nul\0",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "/etc/passwd",
    "images/" + "n" * 300,
    "%s{0}\\",
)
JUNK = (None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), [], {}, [[]], [None], {"a": [1]}, *TEXTS)


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def _claiming(png: bytes, side: int) -> bytes:
    """Returns a PNG whose header claims that it is `side` pixels wide and high."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def _pictures() -> tuple[bytes, ...]:
    """Returns files that are unusual pictures or no pictures."""
    flat = Image.new("RGB", (8, 6), (200, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    return (
        b"",
        b"<svg></svg>",
        _saved(flat.convert("CMYK"), "JPEG"),
        _saved(flat.quantize(4), "PNG", transparency=0),
        _saved(Image.fromarray(np.full((6, 8), 40_000, np.uint16)), "PNG"),
        _saved(flat.convert("F"), "TIFF"),
        _saved(flat, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6))] * 3),
        _saved(flat, "JPEG", exif=exif),
        _saved(flat.resize((1, 1)), "PNG"),
        _saved(flat.resize((1, 5000)), "PNG"),
        _claiming(_saved(flat, "PNG"), 20_000),
        _claiming(_saved(flat, "PNG"), 7_000),
        _saved(flat, "WEBP"),
    )


PICTURES = _pictures()

FILE_KINDS = (
    *("remove", "rename", "ending", "empty", "swap", "copy", "stray", "other", "picture"),
    *("folder", "pipe", "link", "loop", "outside"),
)


class Runs:
    """Creates the folder `marker` when it is unpickled without restrictions."""

    marker = "it-ran"

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def mutate(folder: Path, layout: str, seed: int) -> list[str]:
    """Damages a data set one to three times and returns descriptions of the damage; the same seed does the same."""
    random_ = random.Random(seed)
    done = []
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        structure, bytes_, whole = (random_.random() < share for share in (0.45, 0.6, 1.0))
        if not files:
            break
        if structure:
            done.append(_try(STRUCTURE[layout], folder, random_))
        elif bytes_:
            done.append(_try(_mutate_bytes, _biased(files, random_), random_))
        elif whole:
            done.append(_try(_mutate_file, _biased(files, random_), files, random_))
    return done


def _biased(files: list[Path], random_: random.Random) -> Path:
    """Returns a random file; prefers tables, of which there are few."""
    tables = [path for path in files if path.suffix != ".png" and path.parent.name != "video_frames_sampled"]
    return random_.choice(tables if tables and random_.random() < 0.35 else files)


def _try(mutation: Callable[..., str], *arguments) -> str:
    """Applies a mutation; does nothing if a file is already too damaged for it."""
    try:
        return mutation(*arguments)
    except Exception as error:  # whatever a damaged file makes a plain reader raise
        return f"{mutation.__name__}: nothing ({type(error).__name__})"


# Bytes


def _mutate_bytes(path: Path, random_: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = random_.randrange(len(content) + 1)
    # Prefers headers, whose damage does most.
    place = min(place, random_.choice((64, 512, len(content))))
    length = random_.choice((1, 2, 4, 40, 400))
    kind = random_.choice(("flip", "overwrite", "cut", "insert", "zeros", "ones", "double", "remove"))
    if kind == "flip" and content:
        for _ in range(length):
            content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    elif kind == "overwrite":
        content[place : place + length] = random_.randbytes(length)
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = random_.randbytes(length)
    elif kind in ("zeros", "ones"):
        content[place : place + length] = (b"\0" if kind == "zeros" else b"\xff") * length
    elif kind == "double":
        content[place:place] = content[place : place + length]
    else:
        del content[place : place + length]
    path.write_bytes(content)
    return f"{kind} {length} at {place} of {path.name}"


# Files


def _mutate_file(path: Path, files: list[Path], random_: random.Random) -> str:
    kind = random_.choice(FILE_KINDS)
    other = random_.choice(files)
    if kind == "copy":
        shutil.copyfile(path, path.with_name(f"copy of {path.name}"))
    elif kind == "stray":
        path.with_name(random_.choice((".hidden", "Thumbs.db", "x_mask.png", "99999.png"))).write_bytes(b"\0" * 9)
    elif kind == "swap":
        mine, its = path.read_bytes(), other.read_bytes()
        path.write_bytes(its)
        other.write_bytes(mine)
    elif kind == "other":
        path.write_bytes(other.read_bytes())
    elif kind == "picture":
        path.write_bytes(random_.choice(PICTURES))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "rename":
        path.rename(path.with_name(random_.choice((path.name.upper(), f" {path.name}", f"{path.stem}x{path.suffix}"))))
    elif kind == "ending":
        path.rename(path.with_suffix(random_.choice((".jpg", ".npy", ".txt", ".PNG", ""))))
    else:
        path.unlink()
        _replace(path, other, kind)
    return f"{kind} {path.name}"


def _replace(path: Path, other: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "outside":
        path.symlink_to("/etc/hostname")
    elif kind == "link" and other != path:
        path.symlink_to(other)


# Entries of tables


def _plain(path: Path) -> Path:
    """Returns `path` if it is a regular file; earlier damage may have replaced it by a pipe, which would block."""
    if not path.is_file():
        raise FileNotFoundError(path)
    return path


def _mutated_value(value, random_: random.Random, depth: int = 0):
    """Returns a value with one change somewhere in it, which may change its type."""
    if random_.random() < 0.25 + 0.25 * depth:
        return random_.choice(JUNK)
    if isinstance(value, list) and value:
        return _mutated_list(value, random_, depth)
    if isinstance(value, dict) and value:
        key = random_.choice(sorted(value, key=str))
        changed = dict(value)
        if random_.random() < 0.3:
            del changed[key]
        else:
            changed[key] = _mutated_value(value[key], random_, depth + 1)
        return changed
    return random_.choice(JUNK)


def _mutated_list(values: list, random_: random.Random, depth: int = 0) -> list:
    """Returns a copy of a list that is damaged in one entry."""
    place = random_.randrange(len(values))
    kind = random_.choice(("drop", "double", "swap", "junk", "value", "value", "value", "many"))
    changed = list(values)
    if kind == "drop":
        del changed[place]
    elif kind == "double":
        changed.insert(random_.randrange(len(values)), changed[place])
    elif kind == "swap":
        other = random_.randrange(len(values))
        changed[place], changed[other] = changed[other], changed[place]
    elif kind == "junk":
        changed[place] = random_.choice(JUNK)
    elif kind == "many":
        changed += [changed[place]] * 200
    else:
        changed[place] = _mutated_value(changed[place], random_, depth + 1)
    return changed


def _mutate_lines(folder: Path, random_: random.Random) -> str:
    path = _plain(folder / "stories.jsonl")
    lines = path.read_bytes().splitlines()
    place = random_.randrange(len(lines))
    kind = random_.choice(("line", "story", "story", "story", "again", "lines", "deep", "bytes", "mark", "returns"))
    if kind == "line":
        lines[place] = random_.choice((b"{", b"null", b"[]", b"\xff\xfe", b"\0", b"{}", b'{"story_id": 1e999}'))
    elif kind == "again":
        lines.append(json.dumps(json.loads(lines[place]) | {"story_id": "another"}).encode())
    elif kind == "lines":
        lines = _mutated_list(lines, random.Random(random_.random()), 9)
        lines = [line if isinstance(line, bytes) else repr(line).encode("utf-8", "replace") for line in lines]
    elif kind == "deep":
        lines[place] = b'{"story_id": ' + b"[" * 100_000
    elif kind == "bytes":
        lines[place] = lines[place].decode("latin1").encode("utf-16")
    elif kind == "mark":
        lines[place] = b"\xef\xbb\xbf" + lines[place]
    elif kind == "story":
        lines[place] = json.dumps(_mutated_value(json.loads(lines[place]), random_)).encode()
    path.write_bytes((b"\r\n" if kind == "returns" else b"\n").join(lines) + b"\n")
    return f"{kind} in line {place + 1}"


def _mutate_table(folder: Path, random_: random.Random) -> str:
    import pyarrow
    from pyarrow import parquet

    path = _plain(folder / "stories.parquet")
    table = parquet.read_table(path)
    rows, name = table.to_pylist(), random_.choice(table.column_names)
    kind = random_.choice(("row", "row", "row", "rows", "drop", "rename", "type", "groups", "none", "twice", "picture"))
    schema = table.schema
    if kind == "row":
        place = random_.randrange(len(rows))
        value = _mutated_value(rows[place][name], random_)
        try:
            rows[place][name] = value
            changed = pyarrow.Table.from_pylist(rows, schema)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, UnicodeError):
            rows[place][name] = None
            changed = pyarrow.Table.from_pylist(rows, schema)
    elif kind == "rows":
        changed = pyarrow.Table.from_pylist(rows[1:] + rows[:1] * random_.randrange(3), schema)
    elif kind == "picture":
        rows[0]["images"][0] = random_.choice(PICTURES)
        changed = pyarrow.Table.from_pylist(rows, schema)
    elif kind == "drop":
        changed = table.drop([name])
    elif kind == "rename":
        changed = table.rename_columns([f"{column}2" if column == name else column for column in table.column_names])
    elif kind == "type":
        words = [base64.b64encode(str(row[name]).encode()).decode() for row in rows]
        changed = table.set_column(table.column_names.index(name), name, pyarrow.array(words))
    else:
        changed = table.slice(0, 0) if kind == "none" else table
    parquet.write_table(changed, path, row_group_size=random_.choice((1, 2, 32)))
    if kind == "twice":
        parquet.write_table(changed, folder / "zweite.parquet")
    return f"{kind} {name}"


def _loaded(path: Path):
    """Returns the content of a `.npy` or `.pkl` file, with plain numpy arrays, which can be pickled again."""
    value = load_npy(path) if path.suffix == ".npy" else load_pickle(path)
    if isinstance(value, dict):
        return {key: np.array(entry) if isinstance(entry, np.ndarray) else entry for key, entry in value.items()}
    return np.array(value) if isinstance(value, np.ndarray) else value


def _save_npy(path: Path, value, random_: random.Random) -> None:
    """Writes a value as `numpy.save` does, in a random pickle protocol."""
    array = np.empty((), object)
    array[()] = value
    np.lib.format.write_array_header_1_0(header := io.BytesIO(), np.lib.format.header_data_from_array_1_0(array))
    path.write_bytes(header.getvalue() + pickle.dumps(array, protocol=random_.randrange(6)))


def _mutated_mapping(values: dict, random_: random.Random):
    """Returns a copy of a dict that is damaged in one entry, or a value that is no dict."""
    key = random_.choice(sorted(values, key=str))
    kind = random_.choice(("drop", "junk", "junk", "value", "value", "key", "bytes", "add", "runs", "other"))
    changed = dict(values)
    if kind == "drop":
        del changed[key]
    elif kind == "junk":
        changed[key] = _junk(random_)
    elif kind == "value":
        plain = np.asarray(values[key]).tolist()
        changed[key] = _mutated_value(plain, random_)
        if random_.random() < 0.5 and isinstance(values[key], np.ndarray):
            array = values[key].copy()
            array.flat[random_.randrange(array.size)] = random_.choice((np.nan, np.inf, -1, 0, 1, 1e308))
            changed[key] = array
    elif kind == "key":
        changed[random_.choice((None, 3, ("a", 1), "", f"{key}x", f"../{key}"))] = changed.pop(key)
    elif kind == "bytes":
        changed = {str(name).encode("utf-8", "replace"): value for name, value in values.items()}
    elif kind == "add":
        changed[f"{key}_9"] = values[key]
    elif kind == "runs":
        changed[key] = Runs()
    else:
        return random_.choice((list(values), None, {}, 3, np.zeros(4), {key: changed}))
    return changed


def _junk(random_: random.Random):
    arrays = (np.zeros((0,)), np.zeros((2, 3)), np.array(["a"]), np.array([None, 1], object), np.float64("nan"), 1j)
    return random_.choice((*JUNK, *arrays, {1, 2}, b"\xff", (1, 2)))


def _mutate_clevr(folder: Path, random_: random.Random) -> str:
    path = _plain(folder / "CLEVR_dict.npy")
    _save_npy(path, _mutated_mapping(_loaded(path), random_), random_)
    return "entries of the dict"


def _mutate_pororo(folder: Path, random_: random.Random) -> str:
    path = _plain(random_.choice(sorted(folder.glob("*.npy"))))
    value = _loaded(path)
    if isinstance(value, dict):
        changed = _mutated_mapping(value, random_)
    else:
        plain = [entry.tolist() if isinstance(entry, np.ndarray) else entry for entry in value.tolist()]
        changed = _mutated_list(plain, random_)
    _save_npy(path, changed, random_)
    return f"entries of {path.name}"


def _mutate_flintstones(folder: Path, random_: random.Random) -> str:
    tables = [*folder.glob("*.json"), *folder.glob("*.pkl")]
    path = random_.choice([*sorted(tables), folder])
    if path == folder:
        path = random_.choice(sorted(folder.glob("video_frames*/*.npy")))
        np.save(path, _odd_clip(random_), allow_pickle=True)
        return f"another clip as {path.name}"
    if _plain(path).suffix == ".json":
        value = json.loads(path.read_text())
        changed = _mutated_value(value, random_) if random_.random() < 0.5 else _mutated_entry(value, random_)
        path.write_text(json.dumps(changed))
    else:
        changed = _mutated_mapping(_loaded(path), random_)
        path.write_bytes(pickle.dumps(changed, protocol=random_.randrange(6)))
    return f"entries of {path.name}"


def _mutated_entry(value, random_: random.Random):
    """Returns the content of a JSON file with one of its lists damaged."""
    if isinstance(value, dict):
        key = random_.choice(sorted(value))
        return value | {key: _mutated_list(value[key], random_)}
    return _mutated_list(value, random_)


def _odd_clip(random_: random.Random) -> np.ndarray:
    shapes = ((0, 6, 8, 3), (2, 6, 8, 4), (2, 6, 8), (3,), (), (1, 1, 1, 3), (2, 0, 8, 3), (1, 9000, 1, 3))
    kind = random_.choice((np.uint8, np.uint8, np.uint8, np.float32, np.int64, object, "S3", bool))
    return np.zeros(random_.choice(shapes), kind, order=random_.choice("CF"))


STRUCTURE = {
    "story-folder": _mutate_lines,
    "parquet": _mutate_table,
    "clevr-sv": _mutate_clevr,
    "pororo-sv": _mutate_pororo,
    "flintstones-sv": _mutate_flintstones,
}
