"""The clients against real servers on loopback: the pretrained model, and small ones that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
import trustme
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from typer.testing import CliRunner

from serving.call_errors import ServingError
from serving.client import AsyncStoryClient, ClientOptions, StoryClient, Tls
from storygan_cli.main import app
from storygan_tf.common.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def client(blocks_server):
    with StoryClient(blocks_server.target, timeout=120) as connected:
        yield connected


def same(frames, expected) -> None:
    """Compares pictures, which may differ by rounding if they were drawn in different batches."""
    for frame, other in zip(frames, expected, strict=True):
        assert frame.mode == "RGB"
        assert np.abs(np.asarray(frame).astype(int) - other).max() <= 1


def test_a_story_is_what_the_model_draws_here(client, saved_blocks):
    sentences = saved_blocks.info["examples"][0]
    story = client.generate(sentences, seed=7)
    same(story.frames, saved_blocks.generate([sentences], [7])[0])
    assert (story.sentences, story.seed, story.version, story.unknown_words) == (tuple(sentences), 7, 1, ())


def test_without_a_seed_and_with_words_that_training_never_saw(client, saved_blocks):
    sentences = [*saved_blocks.info["examples"][0][:3], "A zebra and a blue xylophone."]
    story = client.generate(sentences)
    assert story.unknown_words == ("zebra", "xylophone")
    same(story.frames, saved_blocks.generate([sentences])[0])


def test_many_stories_at_once(client, saved_blocks):
    stories = saved_blocks.info["examples"][:3]
    drawn = client.generate_many(stories, [1, 2, 3])
    expected = saved_blocks.generate(stories, [1, 2, 3])
    assert len(drawn) == 3
    for story, frames in zip(drawn, expected, strict=True):
        same(story.frames, frames)


def test_the_asynchronous_client_does_the_same(blocks_server, saved_blocks):
    stories = saved_blocks.info["examples"][:3]

    async def ask():
        async with AsyncStoryClient(blocks_server.target, timeout=120) as client:
            with pytest.raises(ServingError, match="INVALID_ARGUMENT: story 1: found 1 sentences, expected 4"):
                await client.generate(["alone"])
            return await asyncio.gather(*(client.generate(story, seed) for seed, story in enumerate(stories)))

    for story, frames in zip(asyncio.run(ask()), saved_blocks.generate(stories, [0, 1, 2]), strict=True):
        same(story.frames, frames)


def test_refused_rows_are_an_invalid_argument_with_their_numbers(client, saved_blocks):
    good = saved_blocks.info["examples"][0]
    with pytest.raises(ServingError) as caught:
        client.generate_many([good, [*good[:3], "  "], ["x" * 2000, *good[1:]]])
    assert caught.value.status == "INVALID_ARGUMENT"
    assert set(caught.value.rows) == {1, 2}
    assert "story 2: sentence 4 is blank; write at least one word; story 3: sentence 1 is longer" in str(caught.value)


class ScriptedServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `info` for a model of two frames, and requests for stories by a script of statuses and functions."""

    def __init__(self, script) -> None:
        self.script = list(script)
        self.requests = []
        self.frames = 2

    def Predict(self, request, context):  # noqa: N802
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = 1
        if request.model_spec.signature_name == "info":
            info = json.dumps({"frames": self.frames, "examples": [], "words": []})
            response.outputs["info"].CopyFrom(tf.make_tensor_proto([info]))
            return response
        self.requests.append(request)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, grpc.StatusCode):
            context.abort(step, "as the script says")
        if step is not None:
            step(response)
        return response


@contextlib.contextmanager
def scripted(*script, credentials=None):
    servicer = ScriptedServicer(script)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    if credentials:
        port = server.add_secure_port("localhost:0", credentials)
    else:
        port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield servicer, f"localhost:{port}"
    finally:
        server.stop(None).wait()


def pictures(response, rows=1, png=None, frames=2) -> None:
    png = png or tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
    response.outputs["image_bytes"].CopyFrom(tf.make_tensor_proto([[png] * frames] * rows))
    response.outputs["error"].CopyFrom(tf.make_tensor_proto([""] * rows))


BUSY = grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("options", "choice"), [({"version": 3}, 3), ({"label": "canary"}, "canary")])
def test_requests_name_a_version_or_a_label(options, choice):
    with scripted(pictures) as (servicer, target), StoryClient(target, **options) as client:
        client.generate(["a", "b"])
    spec = servicer.requests[0].model_spec
    assert (spec.version_label or spec.version.value) == choice


def test_unavailable_is_tried_again(blocks_server):
    with scripted(BUSY, BUSY, pictures) as (servicer, target), StoryClient(target, backoff=0.01) as client:
        assert len(client.generate(["a", "b"]).frames) == 2
    assert len(servicer.requests) == 3


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_number_of_attempts_is_limited(attempts):
    with (
        scripted(*[BUSY] * 9) as (servicer, target),
        StoryClient(target, attempts=attempts, backoff=0.01) as client,
        pytest.raises(ServingError, match=r"UNAVAILABLE: as the script says\. Is a server running there"),
    ):
        client.generate(["a", "b"])
    assert len(servicer.requests) == attempts


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "NOT_FOUND", "ABORTED"])
def test_nothing_else_is_tried_again(code):
    with (
        scripted(grpc.StatusCode[code], pictures) as (servicer, target),
        StoryClient(target) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.generate(["a", "b"])
    assert caught.value.status == code
    assert len(servicer.requests) == 1


def test_the_asynchronous_client_tries_again_too():
    async def ask(target):
        async with AsyncStoryClient(target, backoff=0.01) as client:
            return await client.generate(["a", "b"])

    with scripted(BUSY, pictures) as (servicer, target):
        assert len(asyncio.run(ask(target)).frames) == 2
    assert len(servicer.requests) == 2


def test_nothing_listens(port_finder):
    with StoryClient(f"localhost:{port_finder()}", backoff=0.01) as client, pytest.raises(ServingError) as caught:
        client.info()
    assert caught.value.status == "UNAVAILABLE"


def test_a_deadline_covers_all_attempts():
    with scripted(*[BUSY] * 9) as (_, target), StoryClient(target, backoff=60) as client:
        client.info()
        with pytest.raises(ServingError, match=r"DEADLINE_EXCEEDED.*allow more time .timeout."):
            client.generate(["a", "b"], timeout=0.2)


def test_a_model_of_another_length_may_take_its_place():
    async def ask(target, servicer):
        async with AsyncStoryClient(target) as client:
            assert (await client.info()).frames == 2
            servicer.frames = 3
            return await client.generate(["a", "b", "c"])

    step = functools.partial(pictures, frames=3)
    with scripted(step, step) as (servicer, target):
        with StoryClient(target) as client:
            assert client.info().frames == 2
            servicer.frames = 3
            assert len(client.generate(["a", "b", "c"]).frames) == 3
        servicer.frames = 2
        assert len(asyncio.run(ask(target, servicer)).frames) == 3


def test_answers_that_cannot_be_used():
    def two_stories(response):
        pictures(response, rows=2)

    def broken(response):
        pictures(response, png=b"no picture")

    with scripted(two_stories, broken) as (_, target), StoryClient(target) as client:
        with pytest.raises(ServingError, match="INTERNAL: found pictures for 2 stories"):
            client.generate(["a", "b"])
        with pytest.raises(ServingError, match="INTERNAL: found a picture that is no PNG"):
            client.generate(["a", "b"])
        with pytest.raises(ServingError, match=r"FAILED_PRECONDITION: found outputs .., expected one called 'error'"):
            client.generate(["a", "b"])


def test_large_answers_need_a_large_limit():
    noise = np.random.default_rng(1).integers(0, 255, [1024, 1024, 3], np.uint8)

    def large(response):
        pictures(response, png=tf.io.encode_png(noise).numpy())

    with scripted(large, large) as (_, target):
        with (
            StoryClient(target, max_message_bytes=4 * 2**20) as client,
            pytest.raises(ServingError, match=r"RESOURCE_EXHAUSTED.*Raise max_message_bytes"),
        ):
            client.generate(["a", "b"])
        with StoryClient(target) as client:
            assert client.generate(["a", "b"]).frames[0].size == (1024, 1024)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Creates certificates of an authority, of a server named stories.test, and of a client."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("stories.test").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ours = authority.issue_cert("client@stories.test")
    ours.private_key_pem.write_to_path(folder / "key.pem")
    ours.cert_chain_pems[0].write_to_path(folder / "client.pem")
    return folder


def credentials(certificates, mutual=False):
    pem = (certificates / "server.pem").read_bytes()
    ca = (certificates / "ca.pem").read_bytes()
    return grpc.ssl_server_credentials([(pem, pem)], ca if mutual else None, mutual)


def test_tls(certificates):
    with scripted(pictures, credentials=credentials(certificates)) as (_, target):
        tls = Tls(ca=certificates / "ca.pem", server_name="stories.test")
        with StoryClient(target, tls=tls) as client:
            assert len(client.generate(["a", "b"]).frames) == 2
        for wrong in (None, Tls(ca=certificates / "ca.pem"), Tls(server_name="stories.test")):
            with (
                StoryClient(target, tls=wrong, attempts=1, timeout=120) as client,
                pytest.raises(ServingError) as caught,
            ):
                client.info()
            assert caught.value.status == "UNAVAILABLE"


def test_tls_with_a_certificate_of_the_client(certificates):
    with scripted(pictures, credentials=credentials(certificates, mutual=True)) as (_, target):
        common = {"ca": certificates / "ca.pem", "server_name": "stories.test"}
        own = Tls(**common, certificate=certificates / "client.pem", key=certificates / "key.pem")
        with StoryClient(target, tls=own) as client:
            assert len(client.generate(["a", "b"]).frames) == 2
        with StoryClient(target, tls=Tls(**common), attempts=1, timeout=120) as client, pytest.raises(ServingError):
            client.info()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": 1, "label": "stable"}, "version and label: found both"),
        ({"attempts": 6}, "attempts: found 6, expected 1 to 5"),
        ({"timeout": 0}, "expected more than 0"),
    ],
)
def test_options_that_cannot_be_used(values, words):
    with pytest.raises(ConfigError, match=words):
        ClientOptions(**values)


def test_a_certificate_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"ca.pem: cannot be read"):
        StoryClient("localhost:1", tls=Tls(ca=tmp_path / "ca.pem"))


def generate(*arguments):
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def test_the_command_draws_the_same_from_a_server(blocks_server, tmp_path):
    here = generate("--model", "blocks", "--seed", 3, "--out", tmp_path / "here.png")
    there = generate("--target", blocks_server.target, "--seed", 3, "--out", tmp_path / "there.png")
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    pixels = [np.asarray(tf.io.decode_png(path.read_bytes())).astype(int) for path in sorted(tmp_path.iterdir())]
    assert np.abs(pixels[0] - pixels[1]).max() <= 2
    suggested = generate("--target", blocks_server.target)
    assert f"storygan generate --target {blocks_server.target} --sentence" in suggested.output


def test_the_command_needs_one_of_model_and_target():
    for arguments, words in (([], "found neither"), (["--model", "blocks", "--target", "a:1"], "found both")):
        done = generate(*arguments)
        assert isinstance(done.exception, DataError)
        assert words in str(done.exception)
