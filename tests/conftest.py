"""Fixtures for the tests of all packages: functions that write small data sets, and a local S3 server."""

from __future__ import annotations

import io
import json
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from forked_python import ForkedPython
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 40), "blue": (40, 70, 220), "yellow": (240, 220, 40)}
PLACES = ("left", "middle", "right")


def pytest_configure(config: pytest.Config) -> None:
    """Restores SIGINT if a shell started the tests in the background with SIGINT ignored, which tests would inherit."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def draw_frame(squares: list[tuple[str, int, int]], path: Path) -> None:
    """Draws coloured squares on grey: (colour, column, row)."""
    image = Image.new("RGB", (96, 72), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    for colour, column, row in squares:
        pen.rectangle((8 + 32 * column, 4 + 24 * row, 24 + 32 * column, 20 + 24 * row), COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_story_folder(
    path: Path,
    train: int = 6,
    test: int = 2,
    *,
    frames: int = 4,
    split: bool = True,
    labels: bool = True,
    objects: bool = True,
) -> Path:
    """Writes a story folder of coloured squares; frame k shows squares 1 to k.

    Args:
        path: the folder to write.
        train: number of training stories.
        test: number of test stories.
        frames: number of frames in each story.
        split: whether stories name their split.
        labels: whether stories have labels.
        objects: whether stories have objects.

    Returns:
        `path`.
    """
    lines = []
    for number in range(train + test):
        squares = [
            (list(COLOURS)[(number + 3 * frame) % 4], (number // 3 + frame) % 3, (number + number // 2 + frame) % 3)
            for frame in range(frames)
        ]
        images = [f"images/s{number:03d}_{frame + 1}.png" for frame in range(frames)]
        for frame, image in enumerate(images):
            draw_frame(squares[: frame + 1], path / image)
        story = {
            "story_id": f"s{number:03d}",
            "sentences": [
                f"A {colour} square, {PLACES[column]} in row {row}, is number {frame}."
                for frame, (colour, column, row) in enumerate(squares)
            ],
            "images": images,
        }
        if split:
            story["split"] = "train" if number < train else "test"
        if labels:
            story["labels"] = [sorted({square[0] for square in squares[: frame + 1]}) for frame in range(frames)]
        if objects:
            story["objects"] = [list(map(describe, squares[: frame + 1])) for frame in range(frames)]
        lines.append(json.dumps(story) + "\n")
    path.mkdir(parents=True, exist_ok=True)
    (path / "stories.jsonl").write_text("".join(lines))
    return path


def describe(square: tuple[str, int, int]) -> dict:
    colour, column, row = square
    attributes = {"shape": "square", "colour": colour, "material": "paint", "size": "small"}
    return attributes | {"x": (16 + 32 * column) * 64 / 96, "y": (12 + 24 * row) * 64 / 72}


@pytest.fixture(scope="session")
def story_folder():
    """Returns the function `make_story_folder`."""
    return make_story_folder


class StoryLines:
    """Reads and edits the lines of a story folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stories.jsonl"

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def edit(self, index: int, **values) -> dict:
        """Sets fields of a line, or removes those that are None, and returns the old content of the line."""
        lines = self.read()
        before = dict(lines[index])
        lines[index] = {key: value for key, value in (lines[index] | values).items() if value is not None}
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return before


@pytest.fixture(scope="session")
def story_lines():
    """Returns the class `StoryLines`."""
    return StoryLines


def make_prepared_folder(
    path: Path, train: int = 8, test: int = 2, *, val: int = 3, frames: int = 2, size: int = 8
) -> Path:
    """Writes a folder of prepared stories (`storygan_tf.data.prepared_data`): coloured squares, encoded sentences.

    Args:
        path: the folder to write.
        train: number of training stories.
        test: number of test stories.
        val: number of validation stories.
        frames: number of frames in each story.
        size: width of a sentence vector.

    Returns:
        `path`.
    """
    import tensorflow as tf

    from storygan_tf.data import example_schema, prepared_data
    from storygan_tf.text import hashed_ngram_encoder

    ends = [train, train + test, train + test + val]
    splits = zip((prepared_data.TRAIN, prepared_data.TEST, prepared_data.VAL), [0, *ends], ends, strict=False)
    for split, begin, end in splits:
        file = path / split / "stories-00000-of-00001.gz"
        file.parent.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
            for number in range(begin, end):
                colours = [list(COLOURS)[(number + frame) % 4] for frame in range(frames)]
                sentences = [f"A {colour} square in place {number % 3}." for colour in colours]
                images = [_square(colour, 20 * (number % 3)) for colour in colours]
                example = example_schema.story_example(f"s{number:03d}", sentences, images)
                vectors = hashed_ngram_encoder.embed(tf.constant(sentences), size).numpy().ravel()
                example.features.feature[example_schema.VECTORS].float_list.value.extend(vectors)
                writer.write(example.SerializeToString())

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def vectors_of(sentences):
        return hashed_ngram_encoder.embed(sentences, size)

    vectorizer = tf.Module()
    vectorizer.__call__ = vectors_of
    tf.saved_model.save(vectorizer, str(path / prepared_data.VECTORIZER))
    model = {"frames": frames, "sentence_size": size}
    settings = {"settings": {"model": model, "data": {"encoder": "embedded"}}}
    (path / prepared_data.SETTINGS).write_text(json.dumps(settings))
    return path


def _square(colour: str, left: int) -> bytes:
    """Returns a PNG of a coloured square on grey, with some noise.

    Without noise a LeakyReLU's argument that rounds to the other side of zero would do so at every pixel.
    """
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    ImageDraw.Draw(image).rectangle((left, 20, left + 16, 40), COLOURS[colour])
    noise = np.random.default_rng(left).integers(-9, 10, [64, 64, 3])
    noisy = np.clip(np.asarray(image, np.int16) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(png := io.BytesIO(), "PNG")
    return png.getvalue()


@pytest.fixture(scope="session")
def prepared_folder():
    """Returns the function `make_prepared_folder`."""
    return make_prepared_folder


def make_clevr_folder(path: Path) -> Path:
    """Writes CLEVR-SV's public layout: stories 0, 1, 9999 and 10000, and a mask as in CP-CSV's copy."""

    from storygan_tf.data.blocks import clevr
    from storygan_tf.data.blocks.placement import story_objects

    (path / "images").mkdir(parents=True)
    vectors = {}
    for index in (0, 1, 9999, 10_000):
        items = story_objects(1, index)
        for frame in range(1, 5):
            name = f"CLEVR_new_{index:06d}_{frame}.png"
            vectors[name] = clevr.to_vector(items[:frame])
            Image.new("RGBA", (32, 24), (10 * frame, index % 251, 0, 255)).save(path / "images" / name)
    Image.new("L", (32, 24)).save(path / "images/CLEVR_new_000000_1_mask.png")
    save_pickled(path / "CLEVR_dict.npy", vectors)
    return path


@pytest.fixture(scope="session")
def clevr_folder():
    """Returns the function `make_clevr_folder`."""
    return make_clevr_folder


PORORO_EPISODE = "Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1"


def make_pororo_folder(path: Path, clips: int = 13, *, quoted: bool = False) -> Path:
    """Writes Pororo-SV's public layout: clip n is a strip of 2 to 4 squares of 8x8, square k coloured (n, 50 * k, 0).

    The last pixel of each square has another colour. Clip n begins story n if four clips follow it. The last three
    stories are in the validation split, the test split and no split; all others are training stories.

    Args:
        path: the folder to write.
        clips: number of clips, at least 9.
        quoted: whether names are texts such as `b'...'`, as in some copies of the data set.

    Returns:
        `path`.
    """
    import numpy as np

    names = [f"{PORORO_EPISODE}/{number}.png" for number in range(clips)]
    for number, name in enumerate(names):
        strip = np.zeros([(2 + number % 3) * 8 + number % 2, 8, 3], np.uint8)  # some heights are no multiple
        strip[..., 0] = number
        strip[..., 1] = np.arange(len(strip))[:, None] // 8 * 50
        strip[7::8, 7, 2] = 255  # StoryValidator rejects data in which most frames have a single colour
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(strip).save(path / name)
    stories = [names[number : number + 5] for number in range(clips - 4)]
    kind = (lambda name: str(name.encode())) if quoted else str.encode
    np.save(path / "img_cache4.npy", np.array([kind(story[0]) for story in stories]))
    np.save(path / "following_cache4.npy", np.array([list(map(kind, story[1:])) for story in stories]))
    keys = [name.removesuffix(".png") for name in names]
    # One caption for most clips, three for every fourth.
    captions = {
        key: [f"Clip {number} is caption {turn}." for turn in range(1 + 2 * (number % 4 == 0))]
        for number, key in enumerate(keys)
    }
    save_pickled(path / "descriptions.npy", captions)
    save_pickled(path / "labels.npy", {key: np.eye(9)[number % 9] for number, key in enumerate(keys)})
    last = len(stories) - 1
    train, val, test = list(range(last - 2)), [last - 2], [last - 1]
    save_pickled(path / "train_seen_unseen_ids.npy", ragged(train, val, test))
    save_pickled(path / "train_test_ids.npy", ragged(train[1:], [*val, last, 0]))
    return path


def save_pickled(path: Path, value) -> None:
    """Writes a `.npy` file that holds a pickle, as in the published data sets."""
    import numpy as np

    np.save(path, value if isinstance(value, np.ndarray) else np.array(value, dtype=object), allow_pickle=True)


def ragged(*rows):
    """Returns an object array of arrays, which may have different lengths."""
    import numpy as np

    array = np.empty(len(rows), dtype=object)
    array[:] = [np.array(row) for row in rows]
    return array


@pytest.fixture(scope="session")
def pororo_folder():
    """Returns the function `make_pororo_folder`."""
    return make_pororo_folder


def flintstones_clip(number: int) -> str:
    """Returns the name of a clip; each episode has eight."""
    return f"s_02_e_{1 + number // 8:02d}_shot_{100 * number:06d}_{100 * number + 74:06d}"


def make_flintstones_folder(path: Path, *, labels: bool = True, following: bool = True) -> Path:
    """Writes FlintstonesSV's public layout: 16 clips of two episodes, frame k of clip n coloured (n, 50 * k, 0).

    The last pixel of each frame has another colour. Clips 0 to 3 of each episode begin stories. Clip 3 is in the
    validation split, clips 9 and 15 are in the test split, and the others are training clips.

    Args:
        path: the folder to write.
        labels: whether to write `labels.pkl`; clip n shows label n % 7, both there and in the annotations.
        following: whether to write `following_cache4.pkl`.

    Returns:
        `path`.
    """
    import numpy as np

    names = ("Wilma", "Fred", "Betty", "Barney", "Dino", "Pebbles", "Mr Slate")
    clips = list(map(flintstones_clip, range(16)))
    (path / "video_frames_sampled").mkdir(parents=True)
    for number, clip in enumerate(clips):
        frames = np.zeros([2 + number % 3, 6, 8, 3], np.uint8)
        frames[..., 0] = number
        frames[..., 1] = 50 * np.arange(len(frames))[:, None, None]
        frames[:, 5, 7, 2] = 255
        np.save(path / "video_frames_sampled" / f"{clip}.npy", frames)
    annotations = [
        {
            "globalID": clip,
            "description": f"Clip {number} is described.",
            "setting": "a cave",
            "characters": [{"entityLabel": f" {names[number % 7].upper()}"}, {"entityLabel": "a dinosaur"}],
        }
        for number, clip in enumerate(clips)
    ]
    (path / "flintstones_annotations_v1-0.json").write_text(json.dumps(annotations))
    splits = {"val": [clips[3]], "test": [clips[15], clips[9]]}
    splits["train"] = [clip for clip in clips if clip not in splits["val"] + splits["test"]]
    (path / "train-val-test_split.json").write_text(json.dumps(splits))
    if labels:
        flags = {clip: [int(place == number % 7) for place in range(7)] for number, clip in enumerate(clips)}
        (path / "labels.pkl").write_bytes(pickle.dumps(flags))
    if following:
        followed = {clip: clips[number + 1 : 8 * (number // 8) + 8][:4] for number, clip in enumerate(clips)}
        (path / "following_cache4.pkl").write_bytes(pickle.dumps(followed))
    return path


@pytest.fixture(scope="session")
def flintstones_folder():
    """Returns the function `make_flintstones_folder`."""
    return make_flintstones_folder


@pytest.fixture(scope="session")
def forked_python():
    """Starts a `ForkedPython`, which all tests of a process share."""
    with ForkedPython() as python:
        yield python


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Starts a local S3 server in a process of its own and returns its address."""
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=output)
    limit = time.monotonic() + 300
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None and time.monotonic() < limit, log.read_text()
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Creates a bucket on the local S3 server and returns its URI; processes that the test starts can use it, too."""
    import boto3

    from components import buckets

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    name = f"storygan-{uuid.uuid4().hex[:12]}"
    boto3.session.Session().client("s3").create_bucket(Bucket=name)
    buckets.forget_connections()
    yield f"s3://{name}"
    buckets.forget_connections()


@pytest.fixture(scope="session")
def steps():
    """Returns the names of the pipeline's steps in the order in which they run, without the optional BulkInferrer."""
    return [
        "StoryExampleGen",
        "StatisticsGen",
        "SchemaGen",
        "ExampleValidator",
        "JudgeTrainer",
        "Transform",
        "Trainer",
        "StoryEvaluator",
        "ServingCheck",
        "Pusher",
    ]
