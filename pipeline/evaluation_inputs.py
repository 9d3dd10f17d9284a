"""The inputs of an evaluation, stored next to its results so that it can be repeated with another judge."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.judge.judge import load_judge
from storygan_tf.evaluation.judge.judge_choice import CHOICES
from storygan_tf.metrics.networks import load_network

INPUTS_FILE = "inputs.json"


@dataclasses.dataclass(frozen=True)
class EvaluationInputs:
    """Paths and settings of the inputs of an evaluation.

    Attributes:
        examples: root of the Examples artifact.
        judge: folder of the domain judge.
        settings: `storygan_tf.config.schema.Settings` as a dictionary.
        model: version directory of the evaluated model; empty if pictures were evaluated.
        images: arguments of `storygan_tf.evaluation.external_frames.ImageFrames` if pictures were evaluated.
        skip_first_frame: whether the first frame of each story was left out.
    """

    examples: str
    judge: str
    settings: Mapping[str, Any]
    model: str = ""
    images: Mapping[str, Any] | None = None
    skip_first_frame: bool = False

    def save(self, path: Path) -> None:
        """Writes the inputs to a JSON file."""
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode())

    @classmethod
    def load(cls, path: Path) -> EvaluationInputs:
        """Reads a file that `save` wrote.

        Raises:
            DataError: if the file does not exist or has other content.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); expected a file that `storygan run` or `storygan evaluate` wrote."
            ) from error


def judge_fingerprint(settings: EvaluationConfig) -> str:
    """Returns a fingerprint of the judge whose path is in the settings; empty if they contain no path.

    Raises:
        ModelError: if there is no judge at the path.
    """
    return "" if settings.judge in CHOICES else load_judge(settings.judge).sha256


def networks_fingerprint(settings: EvaluationConfig) -> str:
    """Returns a fingerprint of the networks whose paths are in the settings; empty if they contain none.

    Raises:
        ConfigError: if the description of a network is not valid.
        ModelError: if a network cannot be loaded.
    """
    paths = (settings.fid_network, settings.fsd_network, settings.label_network)
    return " ".join(load_network(path).sha256 for path in paths if path)
