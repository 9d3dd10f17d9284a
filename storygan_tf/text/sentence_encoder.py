"""Loads sentence encoders and checks their interface.

An encoder maps sentences, string `[n]`, to vectors, float32 `[n, width]`, as Universal Sentence Encoder does (Cer et
al., arXiv:1803.11175). The vector of a sentence does not depend on the other sentences. An encoder is a SavedModel that
tensorflow_hub loads from a handle or a local path, or the handle `embedded` for
`storygan_tf.text.hashed_ngram_encoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub

from storygan_tf.common.errors import ModelError, first_line
from storygan_tf.common.hub import hub_socket_timeout
from storygan_tf.text.hashed_ngram_encoder import embedded_encoder_path

EMBEDDED = "embedded"
"""Handle of the encoder that needs no download."""

_PROBE = ("A small red cube is in the middle .", "")

_SIGNATURES = ("serving_default", "default")
_OUTPUTS = ("outputs", "default")


class SentenceEncoder(tf.Module):
    """A loaded encoder that maps sentences, string `[n]`, to vectors, float32 `[n, width]`.

    Args:
        loaded: result of `hub.load`: a callable, or an object with a signature `serving_default` or `default`.
        handle: name of the encoder in error messages.

    Attributes:
        handle: name of the encoder in error messages.
        width: width of its vectors.

    Raises:
        ModelError: if the encoder does not map string `[n]` to float32 `[n, width]`.

    Example:
        >>> encoder = load_encoder("embedded")
        >>> encoder(tf.constant(["A red cube."])).shape
        TensorShape([1, 512])
    """

    def __init__(self, loaded: Any, handle: str) -> None:
        super().__init__(name="sentence_encoder")
        self.handle = handle
        self._loaded = loaded  # Tracks the encoder's variables and tables, so that they are saved with this module.
        self._encode = _encode_function(loaded, handle)
        self.width = self._probe()

    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of sentences.

        Args:
            sentences: string `[n]`, UTF-8.

        Returns:
            float32 `[n, width]`.
        """
        return tf.ensure_shape(_only_tensor(self._encode(sentences)), [None, self.width])

    def _probe(self) -> int:
        """Returns the width of the encoder's vectors for two example sentences; raises ModelError if it has none."""
        try:
            vectors = _only_tensor(self._encode(tf.constant(_PROBE)))
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ModelError(f"{self._contract} It cannot take strings of shape [2]: {first_line(error)}") from error
        if not isinstance(vectors, tf.Tensor):
            raise ModelError(f"{self._contract} For strings of shape [2] it gave {_describe(vectors)}.")
        if vectors.dtype != tf.float32 or vectors.shape.rank != 2 or vectors.shape[0] != len(_PROBE):
            output = f"{vectors.dtype.name} {vectors.shape.as_list()}"
            raise ModelError(f"{self._contract} For strings of shape [2] it gave {output}.")
        return int(vectors.shape[1])

    @property
    def _contract(self) -> str:
        return f"sentence encoder {self.handle!r}: expected strings [n] in and float32 [n, width] out."


def load_encoder(handle: str) -> SentenceEncoder:
    """Loads a sentence encoder.

    Args:
        handle: a tensorflow_hub handle, the path of a SavedModel, or `embedded`.

    Raises:
        ModelError: if it cannot be loaded, or does not map string `[n]` to float32 `[n, width]`.
    """
    return SentenceEncoder(_load(handle), handle)


def _load(handle: str) -> Any:
    path = embedded_encoder_path() if handle == EMBEDDED else handle
    try:
        with hub_socket_timeout():
            return hub.load(path)
    except (OSError, EOFError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise _loading_error(handle, error) from error


def _loading_error(handle: str, error: Exception) -> ModelError:
    return ModelError(
        f"sentence encoder {handle!r} cannot be loaded ({type(error).__name__}: {first_line(error)}). Either "
        f"fill a tensorflow_hub cache on a machine that can reach the handle, and set TFHUB_CACHE_DIR to its folder; "
        f"or give the path of an unpacked SavedModel (--encoder PATH); or use the encoder that needs no download "
        f"(--encoder {EMBEDDED})."
    )


def _encode_function(loaded: Any, handle: str) -> Callable[[tf.Tensor], Any]:
    """Returns the function of a loaded SavedModel that encodes sentences: itself, or one of its signatures."""
    if callable(loaded):
        return loaded
    signatures = getattr(loaded, "signatures", {})
    for name in _SIGNATURES:
        if name in signatures:
            return _signature_function(signatures[name], handle)
    raise ModelError(
        f"sentence encoder {handle!r}: it cannot be called, and its signatures are {sorted(signatures) or 'none'}; "
        f"expected a callable SavedModel or a signature named {' or '.join(_SIGNATURES)}."
    )


def _signature_function(signature: Any, handle: str) -> Callable[[tf.Tensor], Any]:
    inputs = list(signature.structured_input_signature[1])
    if len(inputs) != 1:
        raise ModelError(f"sentence encoder {handle!r}: its signature takes {inputs}, expected one input of strings.")
    return lambda sentences: signature(**{inputs[0]: sentences})


def _only_tensor(output: Any) -> Any:
    """Returns the vectors in an encoder's output, which may be a tensor or a mapping of names to tensors."""
    if not isinstance(output, Mapping):
        return output
    names = list(output) if len(output) == 1 else [name for name in _OUTPUTS if name in output]
    return output[names[0]] if names else output


def _describe(value: Any) -> str:
    return f"outputs named {sorted(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
