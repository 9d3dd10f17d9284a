"""The networks of the field's figures, as a user gives them: FID's, FSD's and the label classifier.

Their weights cannot be shipped. A user gives the path of a JSON file (`docs/networks.md`) that names a SavedModel, an
ONNX file or a tensorflow_hub handle and says what the network takes: size, value range, mean and standard deviation,
filter, layout. Nothing of that is guessed, for a network fed with another range gives a figure all the same.
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

from storygan_tf.common.errors import ConfigError, ModelError, nearest, require
from storygan_tf.common.hub import hub_socket_timeout
from storygan_tf.config.parsing import from_dict
from storygan_tf.metrics.resize import Filter, resize, to_64

_AXES = {"frames": "nhwc", "stories": "nthwc"}
"""The axes of what a network of each kind is made to see, as it is held here."""

_BATCH = {"frames": 32, "stories": 8}
"""Frames or stories that go through a network at a time."""

_THREADS = 2
"""Of onnxruntime: always as many, for sums over another number of threads may round otherwise."""

_SIGNATURES = ("serving_default", "default")

_SEE = "docs/networks.md has the keys"


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What a network's JSON says.

    Attributes:
        network: a SavedModel folder or an ONNX file, relative to the JSON, or a tensorflow_hub handle.
        kind: whether it sees single `frames` or whole `stories`.
        input_size: height and width of what it takes.
        value_range: to what the grey levels 0 and 255 are mapped, before `mean` and `std`.
        layout: order of its input's axes: n frames or stories, t frames a story, c channels (RGB), h height, w width.
        mean: subtracted from each channel, on the scale of `value_range`.
        std: by which each channel is divided then.
        resize: the filter from 64x64 to `input_size` (`storygan_tf.metrics.resize`).
        frames: how many frames of a story it takes, drawn evenly from the story's; None for as many as there are.
        signature: of a SavedModel; None for `serving_default`, else `default`, else the SavedModel called as it is.
        output: name of the output; None where there is only one.
        output_size: width D of the output; None where `labels` tell it.
        labels: of a classifier: the label of each score, in its order.
        scores: of a classifier: `logits` or `probabilities`.
        threshold: of a classifier: the probability above which a label counts as seen.
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
        """Width D of the output."""
        return len(self.labels) if self.output_size is None else self.output_size

    def input_shape(self) -> list[int | None]:
        """Returns the shape that the network must take, None where any size will do."""
        sizes = {"n": None, "t": self.frames, "h": self.input_size, "w": self.input_size, "c": 3}
        return [sizes[axis] for axis in self.layout]


def network_input(spec: NetworkSpec, frames: np.ndarray) -> np.ndarray:
    """Makes of frames what a network sees: the field's way to its pixels.

    Each frame goes to 64x64 by Pillow's antialiased bilinear filter, so that a system of larger frames is judged by
    what all are judged by; then to `input_size` by `resize`; then come value range, mean, std and layout.

    Args:
        spec: what the network takes.
        frames: uint8 `[n, height, width, 3]`, for stories `[n, T, height, width, 3]`.

    Returns:
        float32, in the layout of `spec`.
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
class _Loaded:
    """A network that can be asked.

    Attributes:
        run: its input -> its output, as an array of any kind.
        dtype: of its input; None where it does not tell.
        shape: of its input, None for dimensions of any size; None where it does not tell.
    """

    run: Callable[[np.ndarray], Any]
    dtype: str | None = None
    shape: Sequence[int | None] | None = None


class Network:
    """A network of a figure, checked to keep the contract that its JSON states.

    Args:
        spec: what the JSON says.
        what: see below.
        sha256: see below.
        loaded: the network.
        where: how errors call it.

    Attributes:
        spec: what the JSON says.
        what: `SavedModel /path`, `ONNX name.onnx` or the hub handle.
        sha256: over the network's files (names and contents) and what the JSON says, but not over where they lie: the
            network's name in a report.

    Raises:
        ModelError: where the network takes or gives something else.

    Example:
        >>> network = load_network("inception.json")
        >>> network.features(np.zeros((5, 64, 64, 3), np.uint8)).shape
        (5, 2048)
    """

    def __init__(self, spec: NetworkSpec, what: str, sha256: str, loaded: _Loaded, where: str) -> None:
        self.spec = spec
        self.what = what
        self.sha256 = sha256
        self._loaded = loaded
        self._where = where
        self._check_input()
        # Some exports take just so many frames or stories at a time.
        self._fixed = loaded.shape[0] if loaded.shape else None
        self._batch = self._fixed or _BATCH[spec.kind]
        self._probe()

    def features(self, frames: np.ndarray) -> np.ndarray:
        """Returns what the network says of each frame or story.

        Args:
            frames: uint8 `[n, height, width, 3]` where `spec.kind` is `frames`, `[n, T, height, width, 3]` where it is
                `stories`; any height and width, RGB.

        Returns:
            float32 `[n, D]`, finite.

        Raises:
            ModelError: for frames of another kind; where the network fails or gives something else.
        """
        expected = f"uint8 [n{', T' * (self.spec.kind == 'stories')}, height, width, 3]"
        if frames.dtype != np.uint8 or frames.ndim != len(self.spec.layout) or frames.shape[-1] != 3:
            raise ModelError(
                f"{self._where}: found frames {frames.dtype} {list(frames.shape)}, expected {expected}, for its kind "
                f"is {self.spec.kind!r}."
            )
        parts = [self._run(frames[start : start + self._batch]) for start in range(0, len(frames), self._batch)]
        return np.concatenate([np.zeros((0, self.spec.width), np.float32), *parts])

    def labels(self, frames: np.ndarray) -> np.ndarray:
        """Returns which of `spec.labels` a classifier sees in each frame.

        Args:
            frames: uint8 `[n, height, width, 3]`, any height and width, RGB.

        Returns:
            bool `[n, L]`.

        Raises:
            ModelError: where the network is no classifier, fails, or gives no probabilities where it says so.
        """
        if not self.spec.labels:
            raise ModelError(f"{self._where}: is no classifier: its JSON has no 'labels' and 'scores' ({_SEE}).")
        scores = self.features(frames)
        threshold = self.spec.threshold
        if self.spec.scores == "logits":
            return np.asarray(scores > math.log(threshold / (1 - threshold)))
        outside = scores[(scores < 0) | (scores > 1)]
        if outside.size:
            raise ModelError(
                f"{self._where}: found a score of {outside[0]:.6g}, expected probabilities from 0 to 1. Where its "
                'scores are logits, say so: "scores": "logits".'
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
                f"(layout {self.spec.layout}, input_size {self.spec.input_size}{frames}). Mend the JSON where it is "
                "wrong, else export the network again."
            )

    def _probe(self) -> None:
        """Asks once, so that a network that does not keep the contract is refused before hours of work."""
        count = min(2, self._batch)
        if self.spec.kind == "frames":
            self.features(np.zeros((count, 64, 64, 3), np.uint8))
        elif self.spec.frames is not None:
            self.features(np.zeros((count, self.spec.frames, 64, 64, 3), np.uint8))

    def _run(self, frames: np.ndarray) -> np.ndarray:
        values = network_input(self.spec, frames)
        if self._fixed:
            values = np.concatenate([values, np.repeat(values[-1:], self._fixed - len(values), axis=0)])
        try:
            output = np.asarray(self._loaded.run(values))
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise ModelError(
                f"{self._where}: cannot be run on float32 {list(values.shape)}: {_first_line(error)}"
            ) from error
        return self._checked(output, len(values))[: len(frames)]

    def _checked(self, output: np.ndarray, count: int) -> np.ndarray:
        if output.dtype != np.float32 or output.shape != (count, self.spec.width):
            reason = f"one score for each of {len(self.spec.labels)} labels" if self.spec.labels else "output_size"
            raise ModelError(
                f"{self._where}: it gives {output.dtype} {list(output.shape)}, expected float32 "
                f"[{count}, {self.spec.width}] ({reason}). Mend the JSON, or export the network with its output pooled "
                "and flattened."
            )
        if not np.isfinite(output).all():
            row = int(np.flatnonzero(~np.isfinite(output).all(axis=1))[0])
            raise ModelError(
                f"{self._where}: it gives NaN or infinity (row {row} of a batch of {count}), expected finite numbers. "
                "See that value_range, mean and std are those that it was trained with."
            )
        return output


def load_network(path: str | Path) -> Network:
    """Loads a network of a figure.

    Args:
        path: its JSON file (`docs/networks.md`).

    Raises:
        ConfigError: for a key or value of the JSON that is unknown or out of range.
        ModelError: where the JSON or the network is missing or cannot be read or reached, or where the network does
            not keep the contract.
        ModuleNotFoundError: where the network is an ONNX file and onnxruntime (extra `eval`) is not installed.
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
    except TypeError as error:  # of the dataclass, for want of an argument
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
            f"network {file} ({handle}): cannot be reached ({type(error).__name__}: {_first_line(error)}). Fill a "
            "tensorflow_hub cache on a machine that reaches it and name the folder in TFHUB_CACHE_DIR, or give the "
            "path of an unpacked SavedModel as 'network'."
        ) from error
    return folder


def _from_folder(spec: NetworkSpec, file: Path, folder: Path, what: str) -> Network:
    where = f"network {file} ({what})"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.resolve() != file.resolve()]
    contents = ((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files)
    try:
        digest = _digest(spec, contents)
        loaded = hub.load(str(folder))
    except Exception as error:  # a broken SavedModel fails in as many ways as it can be broken
        raise ModelError(
            f"{where}: cannot be loaded ({type(error).__name__}: {_first_line(error)}), expected a whole SavedModel. "
            "Copy or export it again."
        ) from error
    return Network(spec, what, digest, _loaded_saved_model(loaded, spec, where), where)


def _loaded_saved_model(loaded: Any, spec: NetworkSpec, where: str) -> _Loaded:
    signatures = getattr(loaded, "signatures", {})
    names = [name for name in _SIGNATURES if name in signatures] if spec.signature is None else [spec.signature]
    if not names and callable(loaded):
        return _Loaded(lambda values: _output_of(loaded(tf.constant(values)), spec, where))
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
    return _Loaded(
        run=lambda values: _output_of(signature(**{name: tf.constant(values)}), spec, where),
        dtype=inputs[name].dtype.name,
        shape=None if shape.rank is None else shape.as_list(),
    )


def _output_of(outputs: Any, spec: NetworkSpec, where: str) -> Any:
    """Returns the output that is meant, from a tensor or a mapping of names to tensors."""
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
    options.log_severity_level = 4  # its errors are raised as well
    # Weights in files beside it would not count in the hash; onnxruntime would look for them in the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        content = place.read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise ModelError(
            f"{where}: cannot be loaded ({_first_line(error)}), expected a whole ONNX file with its weights inside. "
            "Copy it again, or export it again with external_data=False."
        ) from error
    inputs = {entry.name: entry for entry in session.get_inputs()}
    name = _only_input(list(inputs), where)
    output = _output_name([entry.name for entry in session.get_outputs()], spec, where)
    loaded = _Loaded(
        run=lambda values: session.run([output], {name: values})[0],
        dtype={"tensor(float)": "float32"}.get(inputs[name].type, inputs[name].type),
        shape=[size if isinstance(size, int) else None for size in inputs[name].shape] or None,
    )
    return Network(spec, f"ONNX {place.name}", _digest(spec, [("", content)]), loaded, where)


def _only_input(names: Sequence[str], where: str) -> str:
    if len(names) != 1:
        raise ModelError(
            f"{where}: found {len(names)} inputs ({', '.join(sorted(names))}), expected one, of frames. Export it with "
            "the others fixed."
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
        "Name the one that is meant as 'output' in the JSON."
    )


def _digest(spec: NetworkSpec, files: Iterable[tuple[str, bytes]]) -> str:
    said = dataclasses.asdict(spec)
    del said["network"]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, content in files:
        digest.update(b"\n%d %d " % (len(name.encode()), len(content)) + name.encode())
        digest.update(content)
    return digest.hexdigest()


def _shape(shape: Sequence[int | None] | None, spec: NetworkSpec | None = None) -> str:
    """Returns a shape in words; dimensions of any size by the names of their axes where a `spec` gives them."""
    if shape is None:
        return "of any shape"
    axes = spec.layout if spec else "?" * len(shape)
    return f"[{', '.join(axis if size is None else str(size) for axis, size in zip(axes, shape, strict=True))}]"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
