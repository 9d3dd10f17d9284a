"""The REST client, in a Python that has Pillow and nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from serving.call_errors import ServingError
from serving.rest_client import RestStoryClient
from storygan_tf.common.errors import ConfigError

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
sys.path[:0] = [{site!r}, {root!r}]
from serving.call_errors import ServingError
from serving.rest_client import RestStoryClient

client = RestStoryClient({url!r}, timeout=120)
info = client.info()
story = client.generate(info.examples[0], seed=7)
for number, frame in enumerate(story.frames):
    frame.save(f"{{sys.argv[1]}}/{{number}}.png")
client.generate_many(info.examples[:2])
try:
    client.generate(["a", "b", "c", " "])
except ServingError as error:
    assert error.status == "INVALID_ARGUMENT", error
    assert error.rows == {{0: "sentence 4 is blank; write at least one word."}}, error
else:
    raise AssertionError("a blank sentence was drawn")
assert client.generate([*info.examples[0][:3], "A zebra."]).unknown_words == ("zebra",)
for name in ("tensorflow", "grpc", "numpy", "keras"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name + " is there")
"""


def test_it_needs_pillow_and_nothing_else(blocks_server, saved_blocks, tmp_path):
    site = tmp_path / "site-packages"
    site.mkdir()
    for package in Path(PIL.__file__).parents[1].glob("[Pp][Ii][Ll]*"):
        (site / package.name).symlink_to(package)
    program = PROGRAM.format(site=str(site), root=str(ROOT), url=blocks_server.url)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sentences = saved_blocks.info["examples"][0]
    for number, frame in enumerate(saved_blocks.generate([sentences], [7])[0]):
        with Image.open(tmp_path / f"{number}.png") as image:
            assert np.abs(np.asarray(image).astype(int) - frame).max() <= 1


class Script(BaseHTTPRequestHandler):
    """Answers requests by a script and records their paths."""

    answers: list[tuple[int, bytes]] = []  # noqa: RUF012
    paths: list[str] = []  # noqa: RUF012

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.paths.append(self.path)
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def script():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    Script.answers, Script.paths = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Script.url = f"http://127.0.0.1:{server.server_port}"
    yield Script
    server.shutdown()
    thread.join()
    server.server_close()


INFO = (200, json.dumps({"predictions": [json.dumps({"frames": 2, "examples": [], "words": []})]}).encode())


def test_unavailable_is_tried_again_and_nothing_else(script):
    script.answers[:] = [(503, b'{"error": "full"}'), (503, b'{"error": "full"}'), INFO]
    assert RestStoryClient(script.url, backoff=0.01).info().frames == 2
    assert len(script.paths) == 3
    script.answers[:] = [(500, b'{"error": "x"}'), INFO]
    with pytest.raises(ServingError, match="INTERNAL: x"):
        RestStoryClient(script.url).info()


def test_a_model_of_another_length_may_take_its_place(script):
    other = json.dumps({"frames": 3, "examples": [], "words": []})
    script.answers[:] = [INFO, (200, json.dumps({"predictions": [other]}).encode()), (404, b"{}")]
    client = RestStoryClient(script.url)
    assert client.info().frames == 2
    with pytest.raises(ServingError, match="NOT_FOUND"):
        client.generate(["a", "b", "c"])
    assert client.info().frames == 3
    assert script.answers == []


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((404, b'{"error": "Servable not found for request: Latest(m)"}'), "NOT_FOUND"),
        ((504, b'{"error": "late"}'), "DEADLINE_EXCEEDED"),
        ((400, b"no JSON"), "INVALID_ARGUMENT"),
        ((200, b"no JSON"), "INTERNAL"),
        ((200, b"{}"), "INTERNAL"),
        ((200, b'{"predictions": ["no JSON"]}'), "INTERNAL"),
    ],
)
def test_what_a_server_may_answer(script, answer, status):
    script.answers[:] = [answer]
    with pytest.raises(ServingError) as caught:
        RestStoryClient(script.url).info()
    assert caught.value.status == status


def test_models_versions_and_labels_are_in_the_url(script):
    for options in ({}, {"version": 3}, {"label": "canary"}, {"model": "a b"}):
        script.answers.append(INFO)
        RestStoryClient(script.url, **options).info()
    names = ["storygan", "storygan/versions/3", "storygan/labels/canary", "a%20b"]
    assert script.paths == [f"/v1/models/{name}:predict" for name in names]


def test_nothing_listens_and_nothing_answers(port_finder):
    with pytest.raises(ServingError) as caught:
        RestStoryClient(f"http://localhost:{port_finder()}", backoff=0.01).info()
    assert caught.value.status == "UNAVAILABLE"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServingError) as caught:
            RestStoryClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2).info()
    assert caught.value.status == "DEADLINE_EXCEEDED"


def test_what_is_no_url():
    with pytest.raises(ConfigError, match="expected http://host:port"):
        RestStoryClient("localhost:8501")
