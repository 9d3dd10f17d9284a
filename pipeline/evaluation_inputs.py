"""What an evaluation was made of, kept beside it, so that it can be made again with another judge."""

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
    """Where the parts of an evaluation are.

    Attributes:
        examples: root of the Examples artifact.
        judge: folder of the domain judge.
        settings: of `storygan_tf.config.schema.Settings`.
        model: version directory of the judged model; empty where pictures were judged.
        images: arguments of `storygan_tf.evaluation.external_frames.ImageFrames`, where pictures were judged.
        skip_first_frame: whether the first frame was left out.
    """

    examples: str
    judge: str
    settings: Mapping[str, Any]
    model: str = ""
    images: Mapping[str, Any] | None = None
    skip_first_frame: bool = False

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode())

    @classmethod
    def load(cls, path: Path) -> EvaluationInputs:
        """Reads what `save` wrote.

        Raises:
            DataError: where there is nothing, or something else.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); expected what `storygan run` and `storygan evaluate` leave there."
            ) from error


def judge_fingerprint(settings: EvaluationConfig) -> str:
    """Returns a fingerprint of the judge that the settings name by a path; empty where they name none.

    Raises:
        ModelError: where there is no judge.
    """
    return "" if settings.judge in CHOICES else load_judge(settings.judge).sha256


def networks_fingerprint(settings: EvaluationConfig) -> str:
    """Returns a fingerprint of the networks that the settings name; empty where they name none.

    Raises:
        ConfigError: for a description that is not valid.
        ModelError: where a network cannot be loaded.
    """
    paths = (settings.fid_network, settings.fsd_network, settings.label_network)
    return " ".join(load_network(path).sha256 for path in paths if path)
