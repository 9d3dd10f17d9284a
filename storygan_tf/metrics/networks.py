"""User-supplied networks for published metrics: the networks of FID and FSD, and the label classifier.

Their weights cannot be shipped with this package. A user supplies the path of a JSON file (`docs/networks.md`) that
names a SavedModel, an ONNX file or a tensorflow_hub handle and describes the network's input: size, value range, mean
and standard deviation, resize filter and layout. None of this is guessed: a network also returns features for an input
of the wrong range, and the metric would be wrong without an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

from storygan_tf.common.errors import ConfigError, ModelError, first_line, nearest, require
from storygan_tf.common.hub import hub_socket_timeout
from storygan_tf.config.parsing import from_dict
from storygan_tf.metrics.resize import Filter, resize, to_64

_AXES = {"frames": "nhwc", "stories": "nthwc"}
"""Order of the axes of frames and stories in this module, by kind of network."""

_BATCH = {"frames": 32, "stories": 8}
"""Frames or stories per batch, by kind of network."""

_THREADS = 2
"""Number of threads of onnxruntime. It is fixed because sums over another number of threads may round differently."""

_SIGNATURES = ("serving_default", "default")

_SEE = "docs/networks.md has the keys"


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """The description of a network, as its JSON file holds it.

    Attributes:
        network: path of a SavedModel folder or an ONNX file, relative to the JSON file, or a tensorflow_hub handle.
        kind: whether the network takes single `frames` or whole `stories`.
        input_size: height and width of the input.
        value_range: values that the grey levels 0 and 255 are mapped to, before `mean` and `std` are applied.
        layout: order of the input's axes: n frames or stories, t frames per story, c channels (RGB), h height, w width.
        mean: values that are subtracted from the channels, on the scale of `value_range`.
        std: values by which the channels are divided afterwards.
        resize: filter from 64x64 to `input_size` (`storygan_tf.metrics.resize`).
        frames: number of frames per story that the network takes, sampled evenly from the story's frames; None for
            any number.
        signature: name of a SavedModel's signature. If it is None, `serving_default` is used, else `default`, else the
            SavedModel itself is called.
        output: name of the output; None if there is only one.
        output_size: width D of the output; None if `labels` imply it.
        labels: for a classifier, the label of each score, in order.
        scores: for a classifier, whether its scores are `logits` or `probabilities`.
        threshold: for a classifier, the probability above which a label counts as detected.

    Raises:
        ConfigError: if a value is out of range or contradicts another one.
    """

    network: str
    kind: Literal["frames", "stories"]
    input_size: int
    value_range: tuple[float, ...]
    layout: Literal["nhwc", "nchw", "nthwc", "ncthw", "ntchw"]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: Filter = "bilinear"
    frames: int | None = None
    signature: str | None = None
    output: str | None = None
    output_size: int | None = None
    labels: tuple[str, ...] = ()
    scores: Literal["logits", "probabilities"] | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(bool(self.network), "network", self.network, "a SavedModel folder, an ONNX file or a hub handle")
        require(self.input_size >= 1, "input_size", self.input_size, "at least 1")
        for key, length in (("value_range", 2), ("mean", 3), ("std", 3)):
            value = getattr(self, key)
            require(len(value) == length and all(map(math.isfinite, value)), key, value, f"{length} finite numbers")
        require(self.value_range[0] < self.value_range[1], "value_range", self.value_range, "a lower number first")
        require(min(self.std) > 0, "std", self.std, "numbers above 0")
        axes = _AXES[self.kind]
        require(set(self.layout) == set(axes), "layout", self.layout, f"the axes {axes} in some order ({self.kind})")
        self._check_frames()
        self._check_output()

    def _check_frames(self) -> None:
        if self.frames is not None:
            require(self.kind == "stories", "frames", self.frames, "none, for a network of kind 'frames'")
            require(self.frames >= 1, "frames", self.frames, "at least 1")

    def _check_output(self) -> None:
        if not self.labels:
            require(self.output_size is not None, "output_size", None, "the width of the output, or labels")
            require(self.scores is None, "scores", self.scores, "none without labels")
        else:
            require(len(set(self.labels)) == len(self.labels), "labels", self.labels, "different names")
            require(self.kind == "frames", "labels", self.labels, "none, for a network of kind 'stories'")
            require(self.scores is not None, "scores", None, "'logits' or 'probabilities', where there are labels")
            known = (None, len(self.labels))
            require(self.output_size in known, "output_size", self.output_size, f"{known[1]}, one for each label")
        require(self.width >= 1, "output_size", self.width, "at least 1")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a probability between 0 and 1")

    @property
    def width(self) -> int:
        """The width D of the output."""
        return len(self.labels) if self.output_size is None else self.output_size

    def input_shape(self) -> list[int | None]:
        """Returns the shape that the network's input must have, with None for dimensions of any size."""
        sizes = {"n": None, "t": self.frames, "h": self.input_size, "w": self.input_size, "c": 3}
        return [sizes[axis] for axis in self.layout]


def network_input(spec: NetworkSpec, frames: np.ndarray) -> np.ndarray:
    """Returns frames preprocessed for a network, as published evaluations do it.

    Each frame is resized to 64x64 with Pillow's antialiased bilinear filter, so that systems with larger frames are
    compared at the common size. It is then resized to `spec.input_size` with `spec.resize`, mapped to the value range,
    normalized with mean and std, and transposed to the layout.

    Args:
        spec: description of the network.
        frames: uint8 `[n, height, width, 3]`, or `[n, T, height, width, 3]` for a network of kind `stories`.

    Returns:
        float32 of the shape `spec.input_shape()`.
    """
    if spec.frames is not None:
        chosen = np.linspace(0, frames.shape[1] - 1, spec.frames).round().astype(np.int64)
        frames = frames[:, chosen]
    low, high = spec.value_range
    std = np.array(spec.std)
    scale = (high - low) / 255 / std
    offset = (low - np.array(spec.mean)) / std
    values = resize(to_64(frames), spec.input_size, spec.resize) * scale.astype(np.float32) + offset.astype(np.float32)
    return np.ascontiguousarray(values.transpose([_AXES[spec.kind].index(axis) for axis in spec.layout]))


@dataclasses.dataclass(frozen=True)
class _LoadedNetwork:
    """The loaded graph of a network.

    Attributes:
        run: function from the network's input to its output, an array of any type and shape.
        dtype: type of the input; None if unknown.
        shape: shape of the input, with None for dimensions of any size; None if unknown.
    """

    run: Callable[[np.ndarray], Any]
    dtype: str | None = None
    shape: Sequence[int | None] | None = None


class Network:
    """A network that computes features or labels of frames. Use `load_network` to create one.

    The constructor runs the network once and checks that input and output match the description.

    Args:
        spec: description of the network.
        description: `SavedModel /path`, `ONNX name.onnx` or the hub handle.
        sha256: SHA-256 that identifies the network.
        loaded: the loaded graph.
        where: name of the network in error messages.

    Attributes:
        spec: description of the network.
        description: `SavedModel /path`, `ONNX name.onnx` or the hub handle.
        sha256: SHA-256 of the names and contents of the network's files and of its description, but not of their path.
            It identifies the network in a report.

    Raises:
        ModelError: if the network's input or output does not match `spec`.

    Example:
        >>> network = load_network("inception.json")
        >>> network.features(np.zeros((5, 64, 64, 3), np.uint8)).shape
        (5, 2048)
    """

    def __init__(self, spec: NetworkSpec, description: str, sha256: str, loaded: _LoadedNetwork, where: str) -> None:
        self.spec = spec
        self.description = description
        self.sha256 = sha256
        self._loaded = loaded
        self._where = where
        self._check_input()
        # Some exports have a fixed batch size.
        self._fixed_batch = loaded.shape[0] if loaded.shape else None
        self._batch = self._fixed_batch or _BATCH[spec.kind]
        self._check_output()

    def features(self, frames: np.ndarray) -> np.ndarray:
        """Returns the network's output for each frame or story.

        Args:
            frames: RGB frames of any height and width: uint8 `[n, height, width, 3]` if `spec.kind` is `frames`,
                `[n, T, height, width, 3]` if it is `stories`.

        Returns:
            float32 `[n, D]`, finite.

        Raises:
            ModelError: if the frames do not match the kind of network, the network fails, or its output is not finite
                or not of the expected type and shape.
        """
        expected = f"uint8 [n{', T' * (self.spec.kind == 'stories')}, height, width, 3]"
        if frames.dtype != np.uint8 or frames.ndim != len(self.spec.layout) or frames.shape[-1] != 3:
            raise ModelError(
                f"{self._where}: found frames {frames.dtype} {list(frames.shape)}, expected {expected} for a network "
                f"of kind {self.spec.kind!r}."
            )
        parts = [self._run(frames[start : start + self._batch]) for start in range(0, len(frames), self._batch)]
        return np.concatenate([np.zeros((0, self.spec.width), np.float32), *parts])

    def labels(self, frames: np.ndarray) -> np.ndarray:
        """Returns which of `spec.labels` the classifier detects in each frame.

        Args:
            frames: RGB frames of any height and width, uint8 `[n, height, width, 3]`.

        Returns:
            bool `[n, L]`.

        Raises:
            ModelError: if the network is not a classifier, fails, or returns values outside [0, 1] as probabilities.
        """
        if not self.spec.labels:
            raise ModelError(f"{self._where}: is not a classifier: its JSON has no 'labels' and 'scores' ({_SEE}).")
        scores = self.features(frames)
        threshold = self.spec.threshold
        if self.spec.scores == "logits":
            return np.asarray(scores > math.log(threshold / (1 - threshold)))
        outside = scores[(scores < 0) | (scores > 1)]
        if outside.size:
            raise ModelError(
                f"{self._where}: found a score of {outside[0]:.6g}, expected probabilities from 0 to 1. If its scores "
                'are logits, write "scores": "logits" into the JSON.'
            )
        return np.asarray(scores > threshold)

    def _check_input(self) -> None:
        dtype, shape, expected = self._loaded.dtype, self._loaded.shape, self.spec.input_shape()
        fits = shape is None or (
            len(shape) == len(expected)
            and all(size in (None, wanted) for size, wanted in zip(shape[1:], expected[1:], strict=True))
        )
        if not fits or dtype not in (None, "float32"):
            frames = f", frames {self.spec.frames or 'any'}" * (self.spec.kind == "stories")
            raise ModelError(
                f"{self._where}: it takes {dtype} {_shape(shape)}, expected float32 {_shape(expected, self.spec)} "
                f"(layout {self.spec.layout}, input_size {self.spec.input_size}{frames}). Correct the JSON, or export "
                "the network again."
            )

    def _check_output(self) -> None:
        """Runs the network on blank frames, so that a wrong description is an error before hours of work."""
        count = min(2, self._batch)
        if self.spec.kind == "frames":
            self.features(np.zeros((count, 64, 64, 3), np.uint8))
        elif self.spec.frames is not None:
            self.features(np.zeros((count, self.spec.frames, 64, 64, 3), np.uint8))

    def _run(self, frames: np.ndarray) -> np.ndarray:
        values = network_input(self.spec, frames)
        if self._fixed_batch:
            values = np.concatenate([values, np.repeat(values[-1:], self._fixed_batch - len(values), axis=0)])
        try:
            output = np.asarray(self._loaded.run(values))
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelError(
                f"{self._where}: cannot be run on float32 {list(values.shape)}: {first_line(error)}"
            ) from error
        self._check_values(output, len(values))
        return output[: len(frames)]

    def _check_values(self, output: np.ndarray, count: int) -> None:
        """Raises ModelError unless the output is finite float32 `[count, D]`."""
        if output.dtype != np.float32 or output.shape != (count, self.spec.width):
            reason = f"one score for each of {len(self.spec.labels)} labels" if self.spec.labels else "output_size"
            raise ModelError(
                f"{self._where}: it gives {output.dtype} {list(output.shape)}, expected float32 "
                f"[{count}, {self.spec.width}] ({reason}). Correct the JSON, or export the network with its output "
                "pooled and flattened."
            )
        if not np.isfinite(output).all():
            row = int(np.flatnonzero(~np.isfinite(output).all(axis=1))[0])
            raise ModelError(
                f"{self._where}: it gives NaN or infinity (row {row} of a batch of {count}), expected finite numbers. "
                "Check that value_range, mean and std are those that it was trained with."
            )


def load_network(path: str | Path) -> Network:
    """Loads the network that a JSON file describes, and checks that it matches the description.

    Args:
        path: the JSON file (`docs/networks.md`).

    Raises:
        ConfigError: if a key or a value of the JSON file is unknown or out of range.
        ModelError: if the JSON file or the network is missing or cannot be read, downloaded or run, or if the network
            does not match its description.
        ModuleNotFoundError: if the network is an ONNX file and onnxruntime (extra `eval`) is not installed.
    """
    file = Path(path)
    spec = _read_spec(file)
    if "://" in spec.network:
        return _from_folder(spec, file, _resolved(spec.network, file), spec.network)
    place = file.parent / spec.network
    if place.is_dir():
        return _from_folder(spec, file, place, f"SavedModel {place.resolve()}")
    if place.is_file() and place.suffix == ".onnx":
        return _from_onnx(spec, file, place)
    found = "a file of another kind" if place.is_file() else "nothing"
    raise ModelError(
        f"network {file}: found {found} at {place}, expected a SavedModel folder or an .onnx file. Give its path, "
        f"relative to {file.name}, or a tensorflow_hub handle, as 'network'."
    )


def _read_spec(file: Path) -> NetworkSpec:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"network {file}: cannot be read ({error.strerror}). Give the path of the network's JSON; {_SEE}."
        ) from error
    except ValueError as error:
        raise ModelError(
            f"network {file}: is not JSON ({error}). Give the path of the JSON that describes the network, not of the "
            f"network itself; {_SEE}."
        ) from error
    try:
        return from_dict(NetworkSpec, values)
    except ConfigError as error:
        raise ConfigError(f"network {file}: {error}") from error
    except TypeError as error:  # the dataclass lacks an argument
        needed = [field.name for field in dataclasses.fields(NetworkSpec) if field.default is dataclasses.MISSING]
        missing = ", ".join(key for key in needed if key not in values)
        raise ConfigError(
            f"network {file}: found no {missing}, expected all of {', '.join(needed)}; {_SEE}."
        ) from error


def _resolved(handle: str, file: Path) -> Path:
    """Returns the folder of a hub module, downloaded where it is not in tensorflow_hub's cache."""
    try:
        with hub_socket_timeout():
            folder = Path(hub.resolve(handle))
        if not folder.is_dir():
            raise ValueError(f"tensorflow_hub resolves it to {folder}, which is no folder here")
    except (OSError, EOFError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ModelError(
            f"network {file} ({handle}): cannot be reached ({type(error).__name__}: {first_line(error)}). Fill a "
            "tensorflow_hub cache on a machine that reaches it and name the folder in TFHUB_CACHE_DIR, or give the "
            "path of an unpacked SavedModel as 'network'."
        ) from error
    return folder


def _from_folder(spec: NetworkSpec, file: Path, folder: Path, description: str) -> Network:
    """Loads a SavedModel. Its SHA-256 leaves out the JSON file, which may lie in the same folder."""
    where = f"network {file} ({description})"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.resolve() != file.resolve()]
    contents = ((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files)
    try:
        digest = _digest(spec, contents)
        loaded = hub.load(str(folder))
    except Exception as error:  # TensorFlow raises many types of errors for a damaged SavedModel
        raise ModelError(
            f"{where}: cannot be loaded ({type(error).__name__}: {first_line(error)}), expected a complete "
            "SavedModel. Copy or export it again."
        ) from error
    return Network(spec, description, digest, _wrap_saved_model(loaded, spec, where), where)


def _wrap_saved_model(loaded: Any, spec: NetworkSpec, where: str) -> _LoadedNetwork:
    """Returns the signature of a SavedModel that `spec` names, or the default one."""
    signatures = getattr(loaded, "signatures", {})
    names = [name for name in _SIGNATURES if name in signatures] if spec.signature is None else [spec.signature]
    if not names and callable(loaded):
        return _LoadedNetwork(lambda values: _output_of(loaded(tf.constant(values)), spec, where))
    if not names or names[0] not in signatures:
        wanted = spec.signature or " or ".join(_SIGNATURES)
        raise ModelError(
            f"{where}: found the signatures {sorted(signatures) or 'none'}, expected {wanted}"
            f"{nearest(wanted, signatures)}. Name one as 'signature' in the JSON."
        )
    signature = signatures[names[0]]
    inputs = signature.structured_input_signature[1]
    name = _only_input(list(inputs), where)
    shape = inputs[name].shape
    return _LoadedNetwork(
        run=lambda values: _output_of(signature(**{name: tf.constant(values)}), spec, where),
        dtype=inputs[name].dtype.name,
        shape=None if shape.rank is None else shape.as_list(),
    )


def _output_of(outputs: Any, spec: NetworkSpec, where: str) -> Any:
    """Returns the output that `spec` names, from a tensor or a dictionary of tensors by name."""
    if isinstance(outputs, dict):
        return outputs[_output_name(list(outputs), spec, where)]
    return outputs


def _from_onnx(spec: NetworkSpec, file: Path, place: Path) -> Network:
    import onnxruntime

    where = f"network {file} (ONNX {place})"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # onnxruntime also raises the errors that it logs
    # Weights in separate files would not be part of the SHA-256, and onnxruntime would search the working directory for
    # them. So it gets a path that holds no such files.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        content = place.read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ModelError(
            f"{where}: cannot be loaded ({first_line(error)}), expected a complete ONNX file with its weights inside. "
            "Copy it again, or export it again with external_data=False."
        ) from error
    inputs = {entry.name: entry for entry in session.get_inputs()}
    name = _only_input(list(inputs), where)
    output = _output_name([entry.name for entry in session.get_outputs()], spec, where)
    loaded = _LoadedNetwork(
        run=lambda values: session.run([output], {name: values})[0],
        dtype={"tensor(float)": "float32"}.get(inputs[name].type, inputs[name].type),
        shape=[size if isinstance(size, int) else None for size in inputs[name].shape] or None,
    )
    return Network(spec, f"ONNX {place.name}", _digest(spec, [("", content)]), loaded, where)


def _only_input(names: Sequence[str], where: str) -> str:
    if len(names) != 1:
        raise ModelError(
            f"{where}: found {len(names)} inputs ({', '.join(sorted(names))}), expected one, for frames. Export the "
            "network with the other inputs replaced by constants."
        )
    return names[0]


def _output_name(names: Sequence[str], spec: NetworkSpec, where: str) -> str:
    if spec.output is None and len(names) == 1:
        return names[0]
    if spec.output in names:
        return str(spec.output)
    wanted = "one" if spec.output is None else repr(spec.output)
    raise ModelError(
        f"{where}: found the outputs {', '.join(sorted(names))}, expected {wanted}{nearest(spec.output or '', names)}. "
        "Name one of them as 'output' in the JSON."
    )


def _digest(spec: NetworkSpec, files: Iterable[tuple[str, bytes]]) -> str:
    """Returns the SHA-256 of a description, without the network's path, and of names and contents of files."""
    described = dataclasses.asdict(spec)
    del described["network"]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, content in files:
        digest.update(b"\n%d %d " % (len(name.encode()), len(content)) + name.encode())
        digest.update(content)
    return digest.hexdigest()


def _shape(shape: Sequence[int | None] | None, spec: NetworkSpec | None = None) -> str:
    """Returns a shape as text, with `?` or the axis name in the layout of `spec` for dimensions of any size."""
    if shape is None:
        return "of any shape"
    axes = spec.layout if spec else "?" * len(shape)
    return f"[{', '.join(axis if size is None else str(size) for axis, size in zip(axes, shape, strict=True))}]"
