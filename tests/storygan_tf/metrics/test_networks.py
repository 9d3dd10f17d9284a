"""User-supplied networks: small ones that match their descriptions, and many that do not."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.transform
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from storygan_tf.common.errors import ConfigError, ModelError
from storygan_tf.metrics.networks import NetworkSpec, load_network, network_input

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
KINETICS = {"mean": [0.43216, 0.394666, 0.37645], "std": [0.22803, 0.22145, 0.216989]}
PORORO = ["Pororo", "Loopy", "Crong", "Eddy", "Poby", "Petty", "Tongtong", "Rody", "Harry"]

INCEPTION = {"kind": "frames", "input_size": 299, "value_range": [-1, 1], "output_size": 2048}
"""What FID's network takes and gives."""

R2PLUS1D = KINETICS | {"kind": "stories", "input_size": 112, "value_range": [0, 1], "layout": "ncthw", "frames": 16}
"""What FSD's network takes."""

CLASSIFIER = IMAGENET | {"kind": "frames", "input_size": 32, "value_range": [0, 1], "labels": PORORO}
"""What a classifier of Pororo's characters takes."""

SMALL = {"kind": "frames", "input_size": 8, "value_range": [0, 1], "layout": "nchw", "output_size": 3}

HANDLE = "https://tfhub.dev/somebody/some-network/1"


def weights_of(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CONVOLUTION = weights_of(13, 13, 3, 8) / 13
DENSE = weights_of(8, 2048, seed=2)
CLASSES = weights_of(3, 9, seed=3)


class LikeInception(tf.Module):
    """Pixels [n, 299, 299, 3] -> pooled features [n, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = tf.Variable(CONVOLUTION)
        self.dense = tf.Variable(DENSE)

    @tf.function(input_signature=[tf.TensorSpec([None, 299, 299, 3], tf.float32, "pixels")])
    def __call__(self, pixels):
        maps = tf.nn.relu(tf.nn.conv2d(pixels, self.convolution, 13, "VALID"))
        return {"pool_3": tf.reduce_mean(maps, [1, 2]) @ self.dense}


def save_model(folder: Path, answer, shape, dtype=tf.float32, name="serving_default") -> Path:
    """Saves a SavedModel whose signature `name` gives `answer` of its input."""
    module = tf.Module()
    module.serve = tf.function(answer, input_signature=[tf.TensorSpec(shape, dtype, "pixels")])
    tf.saved_model.save(module, str(folder), signatures={name: module.serve})
    return folder


def onnx_model(nodes, inputs, weights=(), outputs=("y",), dtype=TensorProto.FLOAT) -> onnx.ModelProto:
    """Returns an ONNX model: nodes as (operator, inputs, outputs, attributes), inputs as name -> shape."""
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **attributes) for kind, ins, outs, attributes in nodes],
        "network",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in dict(weights).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def like_inception_onnx() -> onnx.ModelProto:
    nodes = [
        ("Conv", ["x", "convolution"], ["maps"], {"strides": [13, 13]}),
        ("Relu", ["maps"], ["positive"], {}),
        ("GlobalAveragePool", ["positive"], ["pooled"], {}),
        ("Flatten", ["pooled"], ["flat"], {}),
        ("MatMul", ["flat", "dense"], ["y"], {}),
    ]
    weights = {"convolution": CONVOLUTION.transpose(3, 2, 0, 1), "dense": DENSE}
    return onnx_model(nodes, {"x": ["n", 3, 299, 299]}, weights)


def channel_means(*extra, shape=("n", 3, 8, 8), outputs=("y",), dtype=TensorProto.FLOAT, weights=()) -> onnx.ModelProto:
    """Returns an ONNX model with the output `means`, the mean of each channel, and the outputs of the `extra` nodes."""
    nodes = [("ReduceMean", ["x"], ["means"], {"axes": [2, 3], "keepdims": 0})]
    nodes += extra or [("Identity", ["means"], ["y"], {})]
    return onnx_model(nodes, {"x": list(shape)}, weights, outputs, dtype)


@pytest.fixture
def describe(tmp_path):
    """Returns a function that writes a network's JSON: (network, keys...) -> path. An ONNX model is saved first."""

    def write(network, *described: dict, **keys) -> Path:
        if isinstance(network, onnx.ModelProto):
            onnx.save(network, tmp_path / "network.onnx")
            network = "network.onnx"
        values = {"network": str(network)}
        for part in (*described, keys):
            values |= part
        path = tmp_path / "network.json"
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.fixture(scope="module")
def like_inception(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("like_inception")
    module = LikeInception()
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return folder


def frames_of(*shape: int, seed: int = 1) -> np.ndarray:
    """Frames of flat blocks of colour with some noise."""
    random = np.random.default_rng(seed)
    blocks = random.integers(20, 236, (*shape[:-2], 4, 4, 3)).repeat(shape[-2] // 4, -3).repeat(shape[-1] // 4, -2)
    return (blocks + random.integers(-20, 20, blocks.shape)).astype(np.uint8)


def refused(path: Path, *parts: str, error=ModelError) -> str:
    """Loads a network, expects an error that has all `parts`, on one line."""
    with pytest.raises(error) as caught:
        load_network(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# FID's network


def test_a_saved_model_and_an_onnx_file_of_the_same_weights_give_the_same_features(describe, like_inception):
    frames = frames_of(5, 64, 64)
    saved_model = load_network(describe(like_inception, INCEPTION, layout="nhwc"))
    exported = load_network(describe(like_inception_onnx(), INCEPTION, layout="nchw"))
    features = saved_model.features(frames)
    assert (features.dtype, features.shape) == (np.float32, (5, 2048))
    assert features.std(axis=0).min() > 0.001
    np.testing.assert_allclose(exported.features(frames), features, atol=1e-4)
    assert saved_model.description == f"SavedModel {like_inception.resolve()}"
    assert exported.description == "ONNX network.onnx"


def test_the_input_of_fids_network_is_that_of_published_evaluations():
    """Resizes to 64x64 by Pillow, to 299x299 by a bilinear filter without antialiasing, and scales to -1..1."""
    spec = NetworkSpec("x", **INCEPTION, layout="nchw")
    frames = frames_of(2, 96, 128)
    small = [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR)) for frame in frames]
    large = [skimage.transform.resize(frame / 255, (299, 299), order=1, mode="edge") for frame in small]
    expected = 2 * np.stack(large).transpose(0, 3, 1, 2) - 1
    values = network_input(spec, frames)
    assert (values.dtype, values.shape, values.flags.c_contiguous) == (np.float32, (2, 3, 299, 299), True)
    np.testing.assert_allclose(values, expected, atol=3e-5)


def test_mean_and_std_are_on_the_scale_of_the_value_range():
    spec = NetworkSpec("x", "frames", 8, (-1.0, 1.0), "nchw", (0.5, 0.0, -1.0), (2.0, 1.0, 0.5), output_size=1)
    frames = np.full((1, 64, 64, 3), (255, 0, 51), np.uint8)
    np.testing.assert_allclose(network_input(spec, frames)[0, :, 3, 4], [0.25, -1, 0.8], atol=1e-6)


def test_frames_of_any_size_are_judged_by_their_64_pixels(describe, like_inception):
    network = load_network(describe(like_inception, INCEPTION, layout="nhwc"))
    frames = frames_of(2, 128, 96)
    small = np.stack([Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR) for frame in frames])
    np.testing.assert_array_equal(network.features(frames), network.features(small))


@pytest.mark.parametrize("form", ["SavedModel", "ONNX"])
def test_features_are_the_same_bytes_again_and_do_not_depend_on_the_batch(form, describe, like_inception):
    network = like_inception if form == "SavedModel" else like_inception_onnx()
    path = describe(network, INCEPTION, layout="nhwc" if form == "SavedModel" else "nchw")
    frames = frames_of(35, 64, 64)
    first, again = load_network(path), load_network(path)
    features = first.features(frames)
    assert features.tobytes() == first.features(frames).tobytes() == again.features(frames).tobytes()
    np.testing.assert_allclose(
        np.concatenate([first.features(frames[:3]), first.features(frames[3:])]), features, atol=1e-5
    )
    assert first.features(frames[:0]).shape == (0, 2048)


# FSD's network


def like_r2plus1d(shape=("n", 3, 16, 112, 112), transposed=()) -> onnx.ModelProto:
    nodes = [("Transpose", ["x"], ["video"], {"perm": list(transposed)})] if transposed else []
    nodes += [
        ("Conv", ["video" if transposed else "x", "kernel"], ["maps"], {"strides": [4, 16, 16]}),
        ("Relu", ["maps"], ["positive"], {}),
        ("ReduceMean", ["positive"], ["pooled"], {"axes": [2, 3, 4], "keepdims": 0}),
        ("MatMul", ["pooled", "dense"], ["y"], {}),
    ]
    weights = {"kernel": weights_of(8, 3, 4, 16, 16) / 30, "dense": weights_of(8, 512, seed=2)}
    return onnx_model(nodes, {"x": list(shape)}, weights)


def test_the_input_of_a_story_network_is_16_normalized_frames_of_size_112(describe):
    """Compares with the same network computed in NumPy from frames that the test prepares itself."""
    stories = frames_of(3, 4, 64, 64)
    network = load_network(describe(like_r2plus1d(), R2PLUS1D, output_size=512))
    drawn = stories[:, [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]]
    large = skimage.transform.resize(drawn / 255, (3, 16, 112, 112, 3), order=1, mode="edge", anti_aliasing=False)
    video = (large - KINETICS["mean"]) / KINETICS["std"]
    blocks = video.reshape(3, 4, 4, 7, 16, 7, 16, 3)
    maps = np.einsum("nTtYyXxc,fctyx->nfTYX", blocks, weights_of(8, 3, 4, 16, 16) / 30, optimize=True)
    expected = np.maximum(maps, 0).mean(axis=(2, 3, 4)) @ weights_of(8, 512, seed=2)
    features = network.features(stories)
    assert (features.dtype, features.shape) == (np.float32, (3, 512))
    np.testing.assert_allclose(features, expected, atol=1e-3)
    assert np.abs(expected).mean() > 0.1


@pytest.mark.parametrize(
    ("layout", "shape", "transposed"),
    [("ntchw", ["n", 16, 3, 112, 112], [0, 2, 1, 3, 4]), ("nthwc", ["n", 16, 112, 112, 3], [0, 4, 1, 2, 3])],
)
def test_every_layout_of_stories_gives_the_same_features(describe, layout, shape, transposed):
    stories = frames_of(2, 5, 64, 64)
    expected = load_network(describe(like_r2plus1d(), R2PLUS1D, output_size=512)).features(stories)
    other = load_network(describe(like_r2plus1d(shape, transposed), R2PLUS1D, output_size=512, layout=layout))
    np.testing.assert_allclose(other.features(stories), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "available", "chosen"),
    [(3, 8, [0, 4, 7]), (4, 4, [0, 1, 2, 3]), (5, 2, [0, 0, 0, 1, 1]), (None, 4, [0, 1, 2, 3]), (None, 2, [0, 1])],
)
def test_frames_of_a_story_are_drawn_evenly(describe, frames, available, chosen):
    """The network returns the brightness of each frame of its input."""
    brightness = onnx_model(
        [("ReduceMean", ["x"], ["y"], {"axes": [1, 3, 4], "keepdims": 0})], {"x": ["n", 3, "t", 8, 8]}
    )
    story = np.arange(available, dtype=np.uint8)[np.newaxis, :, np.newaxis, np.newaxis, np.newaxis]
    stories = np.broadcast_to(story, (1, available, 64, 64, 3))
    keys = {"kind": "stories", "input_size": 8, "value_range": [0, 255], "layout": "ncthw", "output_size": len(chosen)}
    path = describe(brightness, keys, **({} if frames is None else {"frames": frames}))
    np.testing.assert_allclose(load_network(path).features(stories), [chosen], atol=1e-4)


def test_a_story_network_of_16_frames_is_refused_if_the_json_does_not_say_so(describe):
    keys = {key: value for key, value in R2PLUS1D.items() if key != "frames"}
    refused(
        describe(like_r2plus1d(), keys, output_size=512), "[?, 3, 16, 112, 112]", "[n, 3, t, 112, 112]", "frames any"
    )


# The label classifier


def like_classifier(probabilities=False) -> onnx.ModelProto:
    """Returns the scores of nine labels, a linear map of the normalised mean colour."""
    last = ("Sigmoid", ["logits"], ["y"], {}) if probabilities else ("Identity", ["logits"], ["y"], {})
    return channel_means(
        ("MatMul", ["means", "classes"], ["logits"], {}), last, shape=("n", 3, 32, 32), weights={"classes": CLASSES}
    )


@pytest.mark.parametrize("threshold", [0.5, 0.9])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_a_classifier_of_nine_labels(describe, scores, threshold):
    colours = np.random.default_rng(5).integers(0, 256, (40, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours[:, np.newaxis, np.newaxis], (40, 64, 64, 3))
    path = describe(
        like_classifier(scores == "probabilities"), CLASSIFIER, layout="nchw", scores=scores, threshold=threshold
    )
    network = load_network(path)
    logits = (colours / 255 - IMAGENET["mean"]) / IMAGENET["std"] @ CLASSES
    expected = 1 / (1 + np.exp(-logits)) > threshold
    labels = network.labels(frames)
    assert (labels.dtype, labels.shape, network.spec.labels) == (bool, (40, 9), tuple(PORORO))
    assert 0.05 < labels.mean() < 0.95
    np.testing.assert_array_equal(labels, expected)
    assert network.features(frames).shape == (40, 9)


def test_a_classifier_as_a_saved_model(describe, tmp_path):
    folder = save_model(
        tmp_path / "classifier", lambda pixels: {"y": tf.reduce_mean(pixels, [1, 2]) @ CLASSES}, [None, 32, 32, 3]
    )
    saved_model = load_network(describe(folder, CLASSIFIER, layout="nhwc", scores="logits"))
    frames = frames_of(9, 64, 64)
    exported = load_network(describe(like_classifier(), CLASSIFIER, layout="nchw", scores="logits"))
    np.testing.assert_array_equal(saved_model.labels(frames), exported.labels(frames))


def test_only_a_classifier_detects_labels(describe):
    network = load_network(describe(channel_means(), SMALL))
    with pytest.raises(ModelError, match=r"not a classifier.*'labels' and 'scores'"):
        network.labels(frames_of(1, 64, 64))


def test_logits_that_are_called_probabilities_are_an_error(describe):
    network = load_network(describe(like_classifier(), CLASSIFIER, layout="nchw", scores="probabilities"))
    with pytest.raises(ModelError, match=r"found a score of .*\"scores\": \"logits\""):
        network.labels(frames_of(5, 64, 64))


def test_a_classifier_of_another_number_of_labels(describe):
    path = describe(like_classifier(), CLASSIFIER, layout="nchw", scores="logits", labels=PORORO[:8])
    refused(path, "float32 [2, 9]", "[2, 8]", "each of 8 labels")


# Formats and places of networks


def test_the_json_may_lie_inside_the_saved_model(like_inception, tmp_path, describe):
    folder = shutil.copytree(like_inception, tmp_path / "model")
    inside = folder / "network.json"
    inside.write_text(json.dumps(INCEPTION | {"network": ".", "layout": "nhwc"}))
    network, outside = load_network(inside), load_network(describe(like_inception, INCEPTION, layout="nhwc"))
    assert network.sha256 == outside.sha256
    np.testing.assert_array_equal(network.features(frames_of(1, 64, 64)), outside.features(frames_of(1, 64, 64)))


def test_a_hub_handle_from_a_filled_cache(like_inception, describe, tmp_path, monkeypatch):
    """Loads a module without access to the hub from the cache, which names a module by the SHA-1 of its handle."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    shutil.copytree(like_inception, tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest())
    network = load_network(describe(HANDLE, INCEPTION, layout="nhwc"))
    local = load_network(describe(like_inception, INCEPTION, layout="nhwc"))
    assert (network.description, network.sha256) == (HANDLE, local.sha256)
    np.testing.assert_array_equal(network.features(frames_of(2, 64, 64)), local.features(frames_of(2, 64, 64)))


def test_a_hub_that_is_not_reached(describe, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://localhost:1/network/1"
    refused(describe(handle, SMALL), handle, "cannot be reached", "TFHUB_CACHE_DIR", "SavedModel")
    assert socket.getdefaulttimeout() is None


def test_a_saved_model_that_can_only_be_called(describe, tmp_path):
    """Some hub modules have no signatures."""
    module = LikeInception()
    tf.saved_model.save(module, str(tmp_path / "model"))
    network = load_network(describe("model", INCEPTION, layout="nhwc"))
    assert network.features(frames_of(2, 64, 64)).shape == (2, 2048)


@pytest.mark.parametrize("keys", [{"signature": "embed"}, {}])
def test_another_signature(describe, tmp_path, keys):
    name = keys.get("signature", "default")
    folder = save_model(
        tmp_path / "model", lambda pixels: {"y": tf.reduce_mean(pixels, [1, 2])}, [None, 8, 8, 3], name=name
    )
    frames = np.full((2, 64, 64, 3), 51, np.uint8)
    network = load_network(describe(folder, SMALL, layout="nhwc", **keys))
    np.testing.assert_allclose(network.features(frames), 0.2, atol=1e-6)


@pytest.mark.parametrize("fixed", [1, 3])
def test_a_network_with_a_fixed_batch_size(describe, fixed):
    fixed_batch, any_batch = (
        load_network(describe(channel_means(shape=(count, 3, 8, 8)), SMALL)) for count in (fixed, "n")
    )
    frames = frames_of(7, 64, 64)
    np.testing.assert_allclose(fixed_batch.features(frames), any_batch.features(frames), atol=1e-6)


# The hash of a network


def test_the_hash_is_of_the_weights_and_the_json_not_of_their_place(describe, tmp_path):
    path = describe(channel_means(), SMALL)
    known = load_network(path).sha256
    assert len(known) == 64
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "network.onnx", elsewhere / "renamed.onnx")
    values = {"network": "renamed.onnx", **dict(reversed(SMALL.items())), "resize": "bilinear"}
    (elsewhere / "other.json").write_text(json.dumps(values, indent=4))
    assert load_network(elsewhere / "other.json").sha256 == known
    others = [
        load_network(describe(channel_means(), SMALL, resize="bicubic-antialias")).sha256,
        load_network(describe(channel_means(), SMALL, mean=[0.5, 0.5, 0.5])).sha256,
        load_network(describe(channel_means(("Neg", ["means"], ["y"], {})), SMALL)).sha256,
    ]
    assert len({known, *others}) == 4


def test_the_hash_of_a_saved_model_depends_on_every_file(like_inception, tmp_path, describe):
    folder = shutil.copytree(like_inception, tmp_path / "model")
    path = describe("model", INCEPTION, layout="nhwc")
    known = load_network(path).sha256
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "names.txt").write_text("one")
    named = load_network(path).sha256
    (folder / "assets" / "names.txt").rename(folder / "assets" / "other.txt")
    assert len({known, named, load_network(path).sha256}) == 3


# Errors of the JSON file


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"resise": "bilinear"}, ["'resise'", "did you mean 'resize'"]),
        ({"resize": "bicubic"}, ["resize: found 'bicubic'", "bicubic-antialias"]),
        ({"kind": "videos"}, ["kind: found 'videos'", "frames, stories"]),
        ({"input_size": 0}, ["input_size: found 0"]),
        ({"input_size": "299"}, ["input_size: found '299'", "a whole number"]),
        ({"value_range": [1, 0]}, ["value_range", "a lower number first"]),
        ({"value_range": [0, 1, 2]}, ["value_range", "2 finite numbers"]),
        ({"mean": [0.5]}, ["mean", "3 finite numbers"]),
        ({"mean": [0, 0, float("nan")]}, ["mean", "3 finite numbers"]),
        ({"std": [1, 1, 0]}, ["std", "numbers above 0"]),
        ({"layout": "nthwc"}, ["layout: found 'nthwc'", "nhwc"]),
        ({"kind": "stories"}, ["layout: found 'nchw'", "nthwc"]),
        ({"frames": 16}, ["frames: found 16", "kind 'frames'"]),
        ({"kind": "stories", "layout": "ncthw", "frames": 0}, ["frames: found 0", "at least 1"]),
        ({"output_size": None}, ["output_size: found None", "or labels"]),
        ({"output_size": 0}, ["output_size: found 0", "at least 1"]),
        ({"scores": "logits"}, ["scores: found 'logits'", "without labels"]),
        ({"labels": PORORO[:3]}, ["scores: found None", "probabilities"]),
        ({"labels": PORORO, "scores": "logits"}, ["output_size: found 3", "expected 9"]),
        ({"labels": ["Pororo"] * 3, "scores": "logits"}, ["labels", "different names"]),
        ({"labels": PORORO[:3], "scores": "logits", "threshold": 1.0}, ["threshold: found 1.0"]),
        (
            {"kind": "stories", "layout": "ncthw", "labels": PORORO[:3], "scores": "logits"},
            ["labels", "kind 'stories'"],
        ),
        ({"network": ""}, ["network: found ''", "SavedModel"]),
    ],
)
def test_a_wrong_key_or_value_is_named(describe, keys, parts):
    refused(describe("network.onnx", SMALL, keys), *parts, error=ConfigError)


def test_keys_that_must_be_there(tmp_path):
    path = tmp_path / "network.json"
    path.write_text('{"network": "x.onnx", "kind": "frames", "layout": "nchw"}')
    refused(path, "found no input_size, value_range,", "docs/networks.md", error=ConfigError)


@pytest.mark.parametrize(
    ("content", "part"), [(None, "No such file"), (b"{", "is not JSON"), (b"\x08\x07\xff", "is not JSON")]
)
def test_no_json(tmp_path, content, part):
    path = tmp_path / "network.onnx"
    if content is not None:
        path.write_bytes(content)
    refused(path, part, "docs/networks.md")


def test_a_folder_for_the_json(tmp_path):
    refused(tmp_path, "cannot be read", "the network's JSON")


def test_a_json_without_keys(tmp_path):
    path = tmp_path / "network.json"
    path.write_text("[1]")
    refused(path, "a mapping", error=ConfigError)


@pytest.mark.parametrize(("name", "found"), [("no.onnx", "nothing"), ("weights.pth", "another kind")])
def test_a_missing_network_is_an_error(describe, tmp_path, name, found):
    (tmp_path / "weights.pth").write_bytes(b"weights")
    refused(describe(name, SMALL), found, name, "SavedModel folder or an .onnx file")


# Errors of the network


@pytest.mark.parametrize("harm", ["empty", "cut", "other"])
def test_a_corrupt_onnx_file(describe, tmp_path, harm):
    path = describe(like_classifier(), CLASSIFIER, layout="nchw", scores="logits")
    file = tmp_path / "network.onnx"
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "other": b"no network at all"}[harm])
    refused(path, "network.onnx", "cannot be loaded", "complete ONNX file")


def test_onnx_weights_in_another_file_are_refused_even_where_they_could_be_found(describe, tmp_path, monkeypatch):
    path = describe("network.onnx", CLASSIFIER, layout="nchw", scores="logits")
    onnx.save(
        like_classifier(), tmp_path / "network.onnx", save_as_external_data=True, location="w.data", size_threshold=0
    )
    monkeypatch.chdir(tmp_path)
    refused(path, "weights inside", "external_data=False")


@pytest.mark.parametrize("harm", ["no graph", "cut graph", "no weights", "cut weights", "no index", "other graph"])
def test_a_corrupt_saved_model(like_inception, tmp_path, describe, harm):
    folder = shutil.copytree(like_inception, tmp_path / "model")
    change, name = harm.split()
    file = (
        folder
        / {
            "graph": "saved_model.pb",
            "weights": "variables/variables.data-00000-of-00001",
            "index": "variables/variables.index",
        }[name]
    )
    whole = file.read_bytes()
    file.unlink()
    if change != "no":
        file.write_bytes(whole[: len(whole) // 2] if change == "cut" else b"no network at all")
    refused(describe("model", INCEPTION, layout="nhwc"), "SavedModel", "cannot be loaded", "again")


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"input_size": 9}, ["[?, 3, 8, 8]", "[n, 3, 9, 9]", "input_size 9"]),
        ({"layout": "nhwc"}, ["[?, 3, 8, 8]", "[n, 8, 8, 3]", "layout nhwc"]),
        ({"kind": "stories", "layout": "ncthw"}, ["[?, 3, 8, 8]", "[n, 3, t, 8, 8]"]),
        ({"output_size": 2048}, ["float32 [2, 3]", "[2, 2048]", "output_size"]),
    ],
)
def test_a_network_of_another_shape(describe, keys, parts):
    refused(describe(channel_means(), SMALL, keys), *parts)


def test_a_saved_model_of_another_shape(describe, like_inception):
    refused(describe(like_inception, INCEPTION, layout="nchw"), "[?, 299, 299, 3]", "[n, 3, 299, 299]", "layout nchw")


@pytest.mark.parametrize(
    ("dtype", "found"), [(TensorProto.FLOAT16, "tensor(float16)"), (TensorProto.DOUBLE, "tensor(double)")]
)
def test_an_onnx_file_of_another_type(describe, dtype, found):
    refused(describe(channel_means(dtype=dtype), SMALL), f"takes {found}", "expected float32")


def test_a_saved_model_of_another_type(describe, tmp_path):
    folder = save_model(
        tmp_path / "model", lambda pixels: {"y": tf.reduce_mean(pixels, [1, 2])}, [None, 8, 8, 3], tf.uint8
    )
    refused(describe(folder, SMALL, layout="nhwc"), "takes uint8 [?, 8, 8, 3]", "expected float32")


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([("Unsqueeze", ["means", "axes"], ["y"], {})], "float32 [2, 3, 1, 1]"),
        ([("ReduceMean", ["means"], ["y"], {"axes": [0], "keepdims": 1})], "float32 [1, 3]"),
        ([("ReduceMean", ["means"], ["y"], {"axes": [0, 1], "keepdims": 0})], "float32 []"),
        ([("Cast", ["means"], ["y"], {"to": TensorProto.DOUBLE})], "float64 [2, 3]"),
    ],
)
def test_an_output_that_is_not_a_vector_a_frame(describe, nodes, found):
    model = channel_means(*nodes, weights={"axes": np.array([2, 3])})
    model.graph.output[0].type.tensor_type.elem_type = (
        TensorProto.DOUBLE if "64" in found.split()[0] else TensorProto.FLOAT
    )
    refused(describe(model, SMALL), f"gives {found}", "float32 [2, 3]", "flattened")


def test_nan_in_the_output_is_refused_on_loading_or_in_a_batch(describe):
    refused(describe(channel_means(("Log", ["means"], ["y"], {})), SMALL), "NaN or infinity", "row 0", "value_range")
    of_the_dark = channel_means(("Neg", ["means"], ["dark"], {}), ("Log", ["dark"], ["y"], {}))
    network = load_network(describe(of_the_dark, SMALL, value_range=[-1, 1]))
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(network.features(frames), 0, atol=1e-6)
    frames[2] = 200
    with pytest.raises(ModelError, match=r"NaN or infinity \(row 2 of a batch of 4\), expected finite numbers"):
        network.features(frames)


def test_two_outputs_need_a_name(describe):
    model = channel_means(("Neg", ["means"], ["y"], {}), ("Abs", ["means"], ["z"], {}), outputs=("y", "z"))
    refused(describe(model, SMALL), "the outputs y, z", "expected one", "'output'")
    refused(describe(model, SMALL, output="zz"), "the outputs y, z", "expected 'zz'; did you mean 'z'?")
    frames = np.full((1, 64, 64, 3), 51, np.uint8)
    np.testing.assert_allclose(load_network(describe(model, SMALL, output="y")).features(frames), -0.2, atol=1e-6)
    np.testing.assert_allclose(load_network(describe(model, SMALL, output="z")).features(frames), 0.2, atol=1e-6)


def test_two_outputs_of_a_saved_model_need_a_name(describe, tmp_path):
    def answer(pixels):
        means = tf.reduce_mean(pixels, [1, 2])
        return {"pool": means, "logits": -means}

    folder = save_model(tmp_path / "model", answer, [None, 8, 8, 3])
    assert "cannot be run" not in refused(describe(folder, SMALL, layout="nhwc"), "outputs logits, pool", "'output'")
    network = load_network(describe(folder, SMALL, layout="nhwc", output="logits"))
    np.testing.assert_allclose(network.features(np.full((1, 64, 64, 3), 51, np.uint8)), -0.2, atol=1e-6)


def test_two_inputs(describe):
    model = onnx_model([("Add", ["x", "z"], ["y"], {})], {"x": ["n", 3], "z": ["n", 3]})
    refused(describe(model, SMALL), "2 inputs (x, z)", "expected one")


def test_no_such_signature(describe, like_inception):
    path = describe(like_inception, INCEPTION, layout="nhwc", signature="serving_defaults")
    refused(path, "found the signatures ['serving_default']", "did you mean 'serving_default'")


def test_a_saved_model_without_functions_is_refused(describe, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"))
    refused(describe("model", SMALL), "found the signatures none", "serving_default or default")


def test_a_network_that_fails_when_it_runs(describe):
    model = channel_means(("Reshape", ["means", "five"], ["y"], {}), weights={"five": np.array([-1, 5])})
    refused(describe(model, SMALL), "cannot be run on float32 [2, 3, 8, 8]")


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 4, 64, 64, 3), np.uint8), np.zeros((2, 64, 64, 3), np.float32), np.zeros((2, 64, 64, 4), np.uint8)],
)
def test_frames_of_another_kind(describe, frames):
    network = load_network(describe(channel_means(), SMALL))
    with pytest.raises(ModelError, match=r"found frames .*expected uint8 \[n, height, width, 3\].*'frames'"):
        network.features(frames)


def test_without_onnxruntime_the_missing_package_is_named(describe, monkeypatch):
    """The command line uses the name in its advice to install the extra `eval`."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        load_network(describe(channel_means(), SMALL))
    assert caught.value.name == "onnxruntime"
