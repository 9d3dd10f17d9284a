"""Rows of every format become stories to draw, or are rejected with their location and reason."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import parquet

from serving import batch_input
from serving.batch_input import DrawTask, InputFiles, RowChecker, from_line, to_line
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data import example_schema
from storygan_tf.data.datasets.story import Reject
from storygan_tf.evaluation.external_frames import order_of, stored_test_ids
from storygan_tf.evaluation.frame_sources import story_seed

STORIES = [
    {"story_id": "s1", "sentences": ["A red cube.", "Grün."], "seed": 7},
    {"story_id": "s2", "sentences": ["A blue ball.", "The end."]},
    {"story_id": "s3", "sentences": ["One.", "Two.", "Three."], "seed": -(2**63)},
]


def write_lines(path, stories):
    path.write_text("".join(json.dumps(story) + "\n" for story in stories))
    return path


def write_table(path, stories):
    columns = {name: [story.get(name) for story in stories] for name in ("story_id", "sentences", "seed")}
    parquet.write_table(pa.table(columns | {"other": [0] * len(stories)}), path)
    return path


def write_records(path, stories, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for story in stories:
            writer.write(example(**story))
    return path


def example(story_id, sentences, seed=None):
    story = example_schema.story_example(story_id, sentences, [b"a picture"])
    if seed is not None:
        story.features.feature[example_schema.SEED].int64_list.value.append(seed)
    return story.SerializeToString()


def entries(path, seed=0, **rules):
    return list(RowChecker(seed, **rules).check(InputFiles(str(path)).rows()))


def rejected(path, **rules):
    return [(entry.file, entry.reason) for entry in entries(path, **rules) if isinstance(entry, Reject)]


WRITERS = {
    "a.jsonl": write_lines,
    "a.parquet": write_table,
    "a.tfrecord": write_records,
    "a.gz": lambda path, stories: write_records(path, stories, "GZIP"),
    "a.tfrecord-00000-of-00001": write_records,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_entries(tmp_path, name):
    path = WRITERS[name](tmp_path / name, STORIES)
    assert entries(path, seed=5) == [
        DrawTask("s1", ("A red cube.", "Grün."), 7, 0, f"{name}:1"),
        DrawTask("s2", ("A blue ball.", "The end."), story_seed(5, "s2"), 1, f"{name}:2"),
        DrawTask("s3", ("One.", "Two.", "Three."), -(2**63), 2, f"{name}:3"),
    ]


def test_a_seed_depends_on_the_story_id_and_not_on_the_order(tmp_path):
    forth = entries(write_lines(tmp_path / "forth.jsonl", STORIES))
    back = entries(write_lines(tmp_path / "back.jsonl", STORIES[::-1]))
    assert {task.story_id: task.seed for task in forth} == {task.story_id: task.seed for task in back}


BAD_LINES = {
    b"{": "not JSON",
    b'{"story_id": "\xff"}': "not UTF-8",
    b"[1]": "not a JSON object",
    b'{"sentences": ["a"]}': "no story_id",
    b'{"story_id": 3, "sentences": ["a"]}': "story_id is not a text",
    b'{"story_id": " ", "sentences": ["a"]}': "story_id is blank",
    b'{"story_id": "x1"}': "no sentences",
    b'{"story_id": "x2", "sentences": "a b"}': "sentences is not a list of texts",
    b'{"story_id": "x3", "sentences": ["a", 1]}': "sentences is not a list of texts",
    b'{"story_id": "x4", "sentences": ["\\ud800"]}': "sentences is not a list of texts",
    b'{"story_id": "x5", "sentences": ["a"], "seed": 1.5}': "seed is not a whole number of 64 bits",
    b'{"story_id": "x6", "sentences": ["a"], "seed": true}': "seed is not a whole number of 64 bits",
    b'{"story_id": "x7", "sentences": ["a"], "seed": 9223372036854775808}': "seed is not a whole number of 64 bits",
    b'{"story_id": "s1", "sentences": ["a"]}': "duplicate story_id",
    b"[" * 100_000: "not JSON",
    b"1" * 5000: "not JSON",
    b"x" * (batch_input.MAX_LINE + 7): f"line of more than {batch_input.MAX_LINE} bytes",
}


def test_bad_lines_are_set_aside_with_their_place_and_the_others_count(tmp_path):
    good = [json.dumps(story).encode() for story in STORIES]
    lines = [b"\xef\xbb\xbf" + good[0], b"", *BAD_LINES, good[1], b"  ", good[2]]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = entries(tmp_path / "a.jsonl")
    assert [entry.story_id for entry in found if isinstance(entry, DrawTask)] == ["s1", "s2", "s3"]
    assert rejected(tmp_path / "a.jsonl") == [
        (f"a.jsonl:{number}", reason) for number, reason in enumerate(BAD_LINES.values(), start=3)
    ]
    # Lines that name a story have a position, as in `stored_test_ids`; other lines have none.
    assert [entry.position for entry in found if isinstance(entry, DrawTask)] == [0, 9, 10]


def test_a_line_without_an_end_takes_no_memory(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"x" * (40 * batch_input.MAX_LINE))
    tracemalloc.start()
    assert rejected(tmp_path / "a.jsonl") == [("a.jsonl:1", f"line of more than {batch_input.MAX_LINE} bytes")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * batch_input.MAX_LINE


def test_bad_records_are_set_aside(tmp_path):
    other = tf.train.Example()
    other.features.feature[example_schema.STORY_ID].int64_list.value.append(3)
    latin = tf.train.Example()
    latin.features.feature[example_schema.STORY_ID].bytes_list.value.append(b"\xff")
    nothing = tf.train.Example()
    nothing.features.feature[example_schema.STORY_ID].bytes_list.value.append(b"x")
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for content in (b"\x01garbage", other, latin, nothing, example(**STORIES[0])):
            writer.write(content if isinstance(content, bytes) else content.SerializeToString())
    assert rejected(tmp_path / "a.tfrecord") == [
        ("a.tfrecord:1", "not a tf.Example"),
        ("a.tfrecord:2", "no story_id"),
        ("a.tfrecord:3", "not UTF-8"),
        ("a.tfrecord:4", "no sentences"),
    ]


def test_bad_cells_are_set_aside(tmp_path):
    table = pa.table({"story_id": ["a", None, "c"], "sentences": [["x"], ["y"], None], "seed": [None, 2.0, 3.0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rejected(tmp_path / "a.parquet") == [("a.parquet:2", "no story_id"), ("a.parquet:3", "no sentences")]
    parquet.write_table(pa.table({"story_id": [1], "sentences": ["x"]}), tmp_path / "b.parquet")
    assert rejected(tmp_path / "b.parquet") == [("b.parquet:1", "story_id is not a text")]


def test_text_that_is_no_utf_8_in_a_table_is_set_aside(tmp_path):
    raw = pa.array([b"ok", b"\xff"], pa.binary()).cast(pa.string(), safe=False)
    parquet.write_table(pa.table({"story_id": raw, "sentences": [["x"], ["y"]]}), tmp_path / "a.parquet")
    assert rejected(tmp_path / "a.parquet") == [("a.parquet:2", "not UTF-8")]


def test_several_files_are_one_input(tmp_path):
    for folder, stories in (("p", STORIES[:1]), ("q", STORIES)):
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "a.jsonl", stories)
    found = entries(tmp_path / "*" / "a.jsonl")
    assert [entry.location for entry in found if isinstance(entry, DrawTask)] == [
        "p/a.jsonl:1",
        "q/a.jsonl:2",
        "q/a.jsonl:3",
    ]
    assert [(entry.file, entry.reason) for entry in found if isinstance(entry, Reject)] == [
        ("q/a.jsonl:1", "duplicate story_id")
    ]


def test_the_digest_changes_with_a_byte_and_not_with_the_folder(tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "a.jsonl", STORIES)
    first, second = (InputFiles(str(tmp_path / folder / "a.jsonl")).sha256() for folder in ("p", "q"))
    assert first == second
    (tmp_path / "q" / "a.jsonl").write_bytes((tmp_path / "q" / "a.jsonl").read_bytes()[:-1])
    assert InputFiles(str(tmp_path / "q" / "a.jsonl")).sha256() != first


@pytest.mark.parametrize("split", [True, False])
def test_positions_are_those_that_evaluate_counts_by(tmp_path, story_folder, story_lines, split):
    folder = story_folder(tmp_path / "data", train=20, test=5, split=split)
    lines = story_lines(folder)
    tests = [
        index for index, line in enumerate(lines.read()) if line["story_id"] in stored_test_ids(folder, DataConfig())
    ]
    lines.edit(tests[1], sentences=3)
    with lines.path.open("ab") as file:
        file.write(b"not JSON\n")
    ids = stored_test_ids(folder, DataConfig())
    found = [entry for entry in entries(folder / "stories.jsonl", split="test") if isinstance(entry, DrawTask)]
    assert [(ids[task.position], task.position) for task in found] == [
        (task.story_id, place) for task, place in zip(found, [0, *range(2, len(ids))], strict=True)
    ]
    assert len(rejected(folder / "stories.jsonl", split="test")) == 2


def test_an_unknown_split_is_set_aside_if_a_split_is_selected(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [STORIES[0] | {"split": "dev"}])
    assert rejected(path, split="test") == [("a.jsonl:1", "split is none of train, val, test")]
    assert rejected(path) == []


def test_ids_out_of_order_are_refused_where_a_layout_sorts_them(tmp_path):
    stories = [{"story_id": name, "sentences": ["a"]} for name in ("s9", "s10", "s2")]
    path = write_lines(tmp_path / "a.jsonl", stories)
    with pytest.raises(DataError, match=r"a.jsonl:3: found story 's2' after 's10'"):
        entries(path, order=order_of("arldm"))
    assert len(entries(path, order=order_of("storyviz"))) == 3


def damaged_records(path):
    write_records(path, STORIES)
    path.write_bytes(path.read_bytes()[:-5])


def damaged_gzip(path):
    path.write_bytes(gzip.compress(b"no records at all") + b"x")


def damaged_table(path):
    write_table(path, STORIES)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.tfrecord", damaged_records, "record 3 cannot be read"),
        ("a.gz", damaged_gzip, "record 1 cannot be read"),
        ("a.parquet", damaged_table, "damaged, or no Parquet file"),
        ("b.parquet", lambda path: parquet.write_table(pa.table({"x": [1]}), path), "found the columns x"),
        ("a.csv", lambda path: path.touch(), "found another ending"),
        ("a.jsonl.gz", lambda path: path.touch(), "found another ending"),
        ("folder", lambda path: path.mkdir(), "found a folder, expected files"),
        ("missing.jsonl", lambda path: None, "found no such file"),
    ],
)
def test_files_that_cannot_be_read_as_a_whole_are_named(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(DataError, match=words):
        entries(tmp_path / name)


def test_entries_come_back_from_their_lines():
    task = DrawTask("s\n\u2028", ("a\nb", "ü"), -3, 4, "a.jsonl:1")
    reject = Reject("s", "a.jsonl:2", "not JSON")
    lines = b"".join(map(to_line, [task, reject])).splitlines()
    assert json.loads(lines[0])["place"] == "a.jsonl:1", "the name in files of earlier versions"
    assert list(map(from_line, lines)) == [task, reject]
