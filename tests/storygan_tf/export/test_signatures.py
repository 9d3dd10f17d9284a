"""The signatures of an export, run in a fresh process that has only TensorFlow, and on the newest TensorFlow."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_models import small_config
from tensorflow_serving.apis import prediction_log_pb2

from storygan_tf.common.compat import OBJECT_GRAPH
from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.data import example_schema
from storygan_tf.export.serving_warmup import SERVING_WARMUP_FILE, serving_warmup_inputs
from storygan_tf.export.signatures import StoryGANExport, export_storygan, row_errors
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.hashed_ngram_encoder import embed
from storygan_tf.training.storygan import to_uint8

CLIENT = Path(__file__).with_name("client_program.py")

CONFIG = small_config(frames=3)
INFO = {"frames": 3, "image_size": 64, "examples": [["a", "b", "c"]], "words": ["cube", "gr\u00fcn"]}
MAX_LENGTH = 40

STORIES = [
    ["A red cube.", "A blue sphere.", "A green cube is there."],
    ["A blue sphere.", "A blue sphere.", "A red cube."],
    ["Nothing.", "Something gr\u00fcn.", "Everything."],
]
SEEDS = [3, -5, 2**62 + 1]

BAD = [
    STORIES[0],
    ["A red cube.", "", "A cube."],
    ["A red cube.", "A cube.", " \t\n\u00a0\u200b"],
    ["A" * (MAX_LENGTH + 1), "A cube.", "A cube."],
    ["\u00e4" * MAX_LENGTH, "A cube.", "A cube."],
]


class Vectorizer(tf.Module):
    """Like the real one: hashed words, a matrix, and a lookup table that must be saved with them."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = tf.Variable(np.random.default_rng(0).normal(size=[64, 6]).astype(np.float32))
        initializer = tf.lookup.KeyValueTensorInitializer(["Nothing."], tf.constant([5.0]))
        self.table = tf.lookup.StaticHashTable(initializer, 0.0)

    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        return embed(sentences, 64) @ self.matrix + self.table.lookup(sentences)[:, tf.newaxis]


@pytest.fixture(scope="module")
def generator() -> StoryGenerator:
    keras.utils.set_random_seed(4)
    generator = StoryGenerator(CONFIG)
    for _ in range(10):  # moves the moving statistics away from their initial values
        generator(tf.random.normal([8, 3, 6]), training=True, seed=tf.range(8, dtype=tf.int64))
    return generator


@pytest.fixture(scope="module")
def model(generator, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("serving") / "storygan" / "1"
    export_storygan(generator, Vectorizer(), INFO, path, MAX_LENGTH)
    return path


@pytest.fixture(scope="module")
def half_model(generator, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("half") / "1"
    export_storygan(generator, Vectorizer(), INFO, path, MAX_LENGTH, half=True)
    return path


def example(number: int, sentences: list[str], seed: int | None) -> bytes:
    story = example_schema.story_example(f"story-{number}", sentences, [])
    if seed is not None:
        story.features.feature[example_schema.SEED].int64_list.value.append(seed)
    return story.SerializeToString()


def make_calls() -> dict[str, tuple[str, dict[str, Any]]]:
    def sentences_call(name: str, sentences: list, seeds: list[int] | None = None) -> tuple[str, dict[str, Any]]:
        return name, {"sentences": (sentences, "string")} | ({"seed": (seeds, "int64")} if seeds is not None else {})

    def vectors_call(vectors: np.ndarray, seeds: list[int] = SEEDS) -> tuple[str, dict[str, Any]]:
        return "generate_from_vectors", {"vectors": (vectors, "float32"), "seed": (seeds, "int64")}

    def examples_call(serialized: list[bytes]) -> tuple[str, dict[str, Any]]:
        return "generate_from_examples", {"examples": (serialized, "string")}

    return {
        "serve": sentences_call("serving_default", STORIES),
        "serve_alone": sentences_call("serving_default", STORIES[1:2]),
        "serve_bad": sentences_call("serving_default", BAD),
        "serve_wrong_frames": sentences_call("serving_default", [row[:2] for row in STORIES]),
        "generate": sentences_call("generate", STORIES, SEEDS),
        "generate_again": sentences_call("generate", STORIES, SEEDS),
        "raw": sentences_call("generate_raw", STORIES, SEEDS),
        "raw_alone": sentences_call("generate_raw", STORIES[1:2], SEEDS[1:2]),
        "raw_in_24": sentences_call("generate_raw", [STORIES[n % 3] for n in range(24)], [SEEDS[1]] * 24),
        "raw_other_seeds": sentences_call("generate_raw", STORIES, [seed + 1 for seed in SEEDS]),
        "raw_bad": sentences_call("generate_raw", BAD, [0] * len(BAD)),
        "raw_wrong_frames": sentences_call("generate_raw", [[*row, "One more."] for row in STORIES], SEEDS),
        "raw_one_seed": sentences_call("generate_raw", STORIES, SEEDS[:1]),
        "vectors": vectors_call(vectors_of(STORIES)),
        "vectors_bad": vectors_call(bad_vectors()),
        "vectors_wrong_frames": vectors_call(vectors_of(STORIES)[:, :2]),
        "vectors_wrong_size": vectors_call(vectors_of(STORIES)[:, :, :5]),
        "examples_seeds": examples_call([example(n, STORIES[n], SEEDS[n]) for n in range(3)]),
        "examples_unseeded": examples_call([example(n, STORIES[n], None) for n in range(3)]),
        "examples_mixed": examples_call([example(0, STORIES[0], None), example(1, STORIES[1], SEEDS[1])]),
        "examples_bad": examples_call([example(n, row, None) for n, row in enumerate(BAD)]),
        "examples_wrong_frames": examples_call([example(0, STORIES[0][:2], None)]),
        "info": ("info", {"query": (["", "anything"], "string")}),
        "nothing": sentences_call("generate_raw", np.zeros([0, 3], "S1"), []),
        "examples_nothing": examples_call([]),
    }


def vectors_of(stories: list[list[str]]) -> np.ndarray:
    flat = tf.constant([sentence for story in stories for sentence in story])
    return Vectorizer()(flat).numpy().reshape(len(stories), 3, 6)


def bad_vectors() -> np.ndarray:
    vectors = vectors_of(STORIES)
    vectors[0, 1, 2] = np.nan
    vectors[2, 2, 5] = -np.inf
    return vectors


def call_in_process(
    python: Path | str, model: Path, calls: dict[str, tuple[str, dict[str, Any]]], folder: Path
) -> dict[str, Any]:
    """Returns the results of calls of an export, by name, from a process of its own that imports only TensorFlow."""
    (folder / "calls").write_bytes(pickle.dumps(list(calls.values())))
    command = [str(python), "-I", str(CLIENT), str(model), str(folder / "calls"), str(folder / "results")]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = pickle.loads((folder / "results").read_bytes())
    return found | dict(zip(calls, found["results"], strict=True))


def call_here(model: Path, calls: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Returns the results of calls of an export, by name, in this process."""
    found = runpy.run_path(str(CLIENT))["call_signatures"](str(model), list(calls.values()))
    return found | dict(zip(calls, found["results"], strict=True))


@pytest.fixture(scope="module")
def results(model, tmp_path_factory) -> dict[str, Any]:
    return call_in_process(sys.executable, model, make_calls(), tmp_path_factory.mktemp("client"))


def pixels(image_bytes: np.ndarray) -> np.ndarray:
    return np.array([[np.asarray(Image.open(io.BytesIO(one))) for one in row] for row in image_bytes])


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max(initial=0))


def test_the_client_needed_tensorflow_only(results):
    assert results["modules"] == []


def test_signatures(results):
    sentences, seed = {"sentences": ("string", [None, None])}, {"seed": ("int64", [None])}
    pictures = {"image_bytes": "string", "error": "string"}
    assert results["signatures"] == {
        "serving_default": (sentences, pictures),
        "generate": (sentences | seed, pictures),
        "generate_raw": (sentences | seed, {"images": "uint8", "error": "string"}),
        "generate_from_vectors": ({"vectors": ("float32", [None] * 3)} | seed, pictures),
        "generate_from_examples": ({"examples": ("string", [None])}, pictures | {"story_id": "string"}),
        "info": ({"query": ("string", [None])}, {"info": "string"}),
    }


def test_pictures_are_pngs_of_the_raw_pixels(results):
    assert results["generate"]["image_bytes"].shape == (3, 3)
    np.testing.assert_array_equal(pixels(results["generate"]["image_bytes"]), results["raw"]["images"])
    assert list(results["generate"]["error"]) == [b""] * 3


def test_pictures_are_the_generators_in_inference_mode(results, generator):
    """Allows one grey level: a vectorizer that is traced here may sum in another order and round differently."""
    flat = tf.constant([sentence for story in STORIES for sentence in story])
    vectors = tf.reshape(Vectorizer()(flat), [3, 3, 6])
    expected = to_uint8(generator(vectors, training=False, seed=tf.constant(SEEDS, tf.int64)).images)
    assert difference(results["raw"]["images"], expected.numpy()) <= 1
    assert results["raw"]["images"].std() > 1


def test_the_same_request_gives_the_same_bytes(results):
    np.testing.assert_array_equal(results["generate"]["image_bytes"], results["generate_again"]["image_bytes"])


def test_pictures_do_not_depend_on_the_batch(results):
    """Allows one grey level, because a batch of another size may round differently.

    How TensorFlow cuts a matrix product into blocks depends on the size of the batch. A pixel whose sums differ in the
    last bit may then round to the next grey level, and one pixel changes a PNG.
    """
    alone = results["raw_alone"]["images"][0]
    assert difference(alone, results["raw"]["images"][1]) <= 1
    for row in range(1, 24, 3):
        assert difference(alone, results["raw_in_24"]["images"][row]) <= 1
    assert difference(pixels(results["serve_alone"]["image_bytes"])[0], pixels(results["serve"]["image_bytes"])[1]) <= 1


def test_another_seed_gives_other_pictures(results):
    for story in range(3):
        assert difference(results["raw"]["images"][story], results["raw_other_seeds"]["images"][story]) > 1


def test_the_default_seed_is_0(results, generator):
    vectors = tf.reshape(Vectorizer()(tf.reshape(tf.constant(STORIES), [-1])), [3, 3, 6])
    expected = to_uint8(generator(vectors, training=False, seed=tf.zeros([3], tf.int64)).images)
    assert difference(pixels(results["serve"]["image_bytes"]), expected.numpy()) <= 1


def test_examples_with_and_without_a_seed(results):
    seeded, unseeded = results["generate"]["image_bytes"], results["serve"]["image_bytes"]
    assert results["examples_seeds"]["story_id"].tolist() == [[b"story-0"], [b"story-1"], [b"story-2"]]
    np.testing.assert_array_equal(results["examples_seeds"]["image_bytes"], seeded)
    np.testing.assert_array_equal(results["examples_unseeded"]["image_bytes"], unseeded)
    mixed = pixels(results["examples_mixed"]["image_bytes"])
    assert difference(mixed[0], pixels(unseeded)[0]) <= 1
    assert difference(mixed[1], pixels(seeded)[1]) <= 1


@pytest.mark.parametrize("call", ["serve_bad", "raw_bad", "examples_bad"])
def test_a_bad_row_has_an_error_and_the_others_are_drawn(results, call):
    result = results[call]
    shape = (len(BAD), 1) if call == "examples_bad" else (len(BAD),)
    assert result["error"].shape == shape
    assert [text.decode() for text in result["error"].ravel()] == [
        "",
        "sentence 2 is blank; write at least one word.",
        "sentence 3 is blank; write at least one word.",
        f"sentence 1 is longer than {MAX_LENGTH} characters; shorten it.",
        "",
    ]
    pictures = result["images"] if call == "raw_bad" else result["image_bytes"]
    empty = [not np.any(row) if call == "raw_bad" else set(row) == {b""} for row in pictures]
    assert empty == [False, True, True, True, False]


@pytest.mark.parametrize("call", ["serve_wrong_frames", "raw_wrong_frames"])
def test_another_number_of_sentences_is_an_error(results, call):
    assert "stories of 3 sentences: sentences must be of shape [B, 3]" in results[call]


@pytest.mark.parametrize("call", ["vectors_wrong_frames", "vectors_wrong_size"])
def test_vectors_of_another_shape_are_an_error(results, call):
    assert "stories of 3 sentences: vectors must be of shape [B, 3, 6]" in results[call]


def test_another_number_of_seeds_is_an_error(results):
    assert "seed must be of shape [B]: one a story." in results["raw_one_seed"]


def test_vectors_give_the_pictures_of_their_sentences(results):
    assert list(results["vectors"]["error"]) == [b""] * 3
    assert difference(pixels(results["vectors"]["image_bytes"]), results["raw"]["images"]) <= 1


def test_a_vector_that_is_not_finite_has_an_error_and_the_others_are_drawn(results):
    result = results["vectors_bad"]
    assert [text.decode() for text in result["error"]] == [
        "the vector of sentence 2 has values that are not numbers (NaN or infinite).",
        "",
        "the vector of sentence 3 has values that are not numbers (NaN or infinite).",
    ]
    assert [set(row) == {b""} for row in result["image_bytes"]] == [True, False, True]
    assert difference(pixels(result["image_bytes"][1:2])[0], results["raw"]["images"][1]) <= 1


def test_an_example_with_another_number_of_sentences_fails(results):
    assert "sentences" in results["examples_wrong_frames"]


def test_info(results):
    one, other = results["info"]["info"]
    assert one == other
    assert json.loads(one) == INFO


def test_an_empty_batch_gives_an_empty_result(results):
    assert results["nothing"]["images"].shape == (0, 3, 64, 64, 3)
    assert results["examples_nothing"]["image_bytes"].shape == (0, 3)


def test_the_first_bad_sentence_of_a_row_is_named():
    rows = tf.constant([["", "x" * 50], ["x" * 50, ""], ["ok", "ok"]])
    assert [text.decode() for text in row_errors(rows, 40).numpy()] == [
        "sentence 1 is blank; write at least one word.",
        "sentence 1 is longer than 40 characters; shorten it.",
        "",
    ]


# Weights kept as float16


def test_float16_weights_take_half_the_space(model, half_model):
    """Batch normalisation stays float32, which is a larger share of a model as small as this one."""

    def kinds(version: Path) -> dict[str, int]:
        saved = tf.train.load_checkpoint(str(version / "variables" / "variables"))
        types = saved.get_variable_to_dtype_map()
        shapes = saved.get_variable_to_shape_map()
        mine = [name for name in types if name.startswith("generator_variables/")]
        return {name: int(np.prod(shapes[name])) * types[name].size for name in mine}

    whole, half = kinds(model), kinds(half_model)
    assert whole.keys() == half.keys()
    assert 0.5 <= sum(half.values()) / sum(whole.values()) < 0.55


def test_float16_weights_draw_the_same_by_the_same_signatures(half_model, results):
    """Pictures differ by at most two of 255 grey levels."""
    raw, encoded = ("raw", "raw_other_seeds", "raw_bad"), ("vectors", "generate", "serve")
    calls = make_calls()
    half = call_here(half_model, {call: calls[call] for call in (*raw, *encoded)})
    assert half["signatures"] == results["signatures"]
    for call in raw:
        assert 0 < difference(half[call]["images"], results[call]["images"]) <= 2
        assert list(half[call]["error"]) == list(results[call]["error"])
    for call in encoded:
        assert difference(pixels(half[call]["image_bytes"]), pixels(results[call]["image_bytes"])) <= 2


# The newest TensorFlow

NEWEST_PYTHON = "STORYGAN_NEWEST_PYTHON"
"""Environment variable with the path of another Python, if the newest TensorFlow needs a newer one than this."""


@pytest.fixture(scope="module")
def newest_python(tmp_path_factory) -> str:
    """Returns a Python with the newest TensorFlow of the package index and its dependencies."""
    environment = tmp_path_factory.mktemp("newest") / "venv"
    python = environment / "bin" / "python"
    uv("venv", "--no-python-downloads", "--python", os.environ.get(NEWEST_PYTHON, sys.executable), str(environment))
    uv("pip", "install", "--python", str(python), "--only-binary", ":all:", "tensorflow")
    return str(python)


def uv(*arguments: str, **options: Any) -> str:
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_newest_tensorflow_draws_the_same(newest_python, model, half_model, results, tmp_path):
    """Tests all signatures of both kinds of export and of the pretrained model, to one grey level."""
    newest = call_in_process(newest_python, model, make_calls(), tmp_path)
    compiled = uv("pip", "compile", "--no-python-downloads", "--python-version", "3.13", "-", input="tensorflow")
    assert f"tensorflow=={newest['tensorflow']}\n" in compiled, f"not the newest; name another Python: {NEWEST_PYTHON}"
    assert_same_results(newest, results)
    for version, calls in ((half_model, make_calls()), (find_model("blocks"), calls_of_blocks())):
        newest, here = (call_in_process(python, version, calls, tmp_path) for python in (newest_python, sys.executable))
        assert_same_results(newest, here)
    print(f"\nTensorFlow {newest['tensorflow']} draws the same as {here['tensorflow']}")


def calls_of_blocks() -> dict[str, tuple[str, dict[str, Any]]]:
    stories = json.loads((find_model("blocks") / "assets.extra" / "storygan.json").read_text())["examples"]
    sentences = {"sentences": (stories, "string")}
    return {
        "raw": ("generate_raw", sentences | {"seed": ([1] * len(stories), "int64")}),
        "serve": ("serving_default", sentences),
    }


def assert_same_results(newest: dict[str, Any], here: dict[str, Any]) -> None:
    assert newest["modules"] == []
    assert newest["signatures"] == here["signatures"]
    for one, other in zip(newest["results"], here["results"], strict=True):
        assert isinstance(one, str) == isinstance(other, str), (one, other)
        if isinstance(one, str):
            continue
        assert one.keys() == other.keys()
        for name in one:
            if name == "images":
                assert difference(one[name], other[name]) <= 1
            elif name == "image_bytes":
                same_pngs(one[name], other[name])
            else:
                assert list(one[name]) == list(other[name])


def same_pngs(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_array_equal(one == b"", other == b"")
    drawn = one != b""
    if drawn.any():
        assert difference(pixels(one[drawn][np.newaxis]), pixels(other[drawn][np.newaxis])) <= 1


# Writing


def test_warm_up_requests_call_every_signature(model):
    inputs = serving_warmup_inputs(CONFIG)
    signatures = tf.saved_model.load(str(model)).signatures
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(model / SERVING_WARMUP_FILE)).as_numpy_iterator()
    ]
    requests = {log.predict_log.request.model_spec.signature_name: log.predict_log.request for log in logs}
    assert requests.keys() == inputs.keys() == signatures.keys()
    for name, request in requests.items():
        result = signatures[name](**{key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()})
        assert all(len(value) == 1 for value in result.values())
        assert result.get("error", tf.constant([b""])).numpy()[0] == b""


def test_info_is_in_a_file_of_the_export(model):
    assert json.loads((model / "assets.extra" / "storygan.json").read_text()) == INFO
    assert [path.name for path in model.parent.iterdir()] == ["1"]


def test_no_more_is_saved_than_is_used(model, generator):
    """The export has the generator's variables and the vectorizer's matrix, no optimizer and no discriminator."""
    names = [name for name, _ in tf.train.list_variables(str(model / "variables" / "variables"))]
    weights = [name for name in names if name not in (OBJECT_GRAPH, "save_counter/.ATTRIBUTES/VARIABLE_VALUE")]
    assert len(weights) == len(generator.weights) + 1


@pytest.fixture
def info_alone(monkeypatch):
    """Exports only the signature `info`. Tracing the others takes most of an export's time."""
    signatures = StoryGANExport.signatures
    monkeypatch.setattr(StoryGANExport, "signatures", lambda self: {"info": signatures(self)["info"]})


@pytest.mark.usefixtures("info_alone")
def test_a_place_that_cannot_be_written_is_named(generator, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"export .*file/storygan/1: could not be written .* choose another place"):
        export_storygan(generator, Vectorizer(), INFO, tmp_path / "file" / "storygan" / "1")


KILLED = """
import resource, signal, sys
import tensorflow as tf
from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.text.hashed_ngram_encoder import embed
from storygan_tf.export.signatures import StoryGANExport, export_storygan
from storygan_tf.models.story_generator import StoryGenerator

signatures = StoryGANExport.signatures
StoryGANExport.signatures = lambda self: {"info": signatures(self)["info"]}
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
generator = StoryGenerator(StoryGANConfig(frames=1, sentence_size=512, context_size=16, generator_width=8))
generator(tf.zeros([1, 1, 512]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
export_storygan(generator, embed, {}, sys.argv[1])
"""
"""Writes an export in which no file may have more than 20 kB, and is killed at the first byte beyond."""


@pytest.mark.usefixtures("info_alone")
def test_an_export_killed_in_the_middle_leaves_no_version_and_the_next_replaces_what_is_there(generator, tmp_path):
    """The kernel kills the process in the middle of the weights."""
    target = tmp_path / "storygan" / "1"
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(target)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGXFSZ, ended.stderr[-2000:]
    assert [path.name for path in target.parent.iterdir()] == [".1.writing"]
    target.mkdir()
    (target / "old.txt").write_text("an older export")
    export_storygan(generator, Vectorizer(), INFO, target)
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    assert not (target / "old.txt").exists()
    assert (target / "saved_model.pb").is_file()


@pytest.mark.usefixtures("info_alone")
def test_a_full_disk_is_an_error_and_nothing_is_left(generator, tmp_path):
    """Python ignores SIGXFSZ, so that a file beyond the limit is an error as on a full disk."""
    target = tmp_path / "storygan" / "1"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError, match=r"export .*1: could not be written .*Free some space or choose another"):
            export_storygan(generator, Vectorizer(), INFO, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(target.parent.iterdir()) == []
