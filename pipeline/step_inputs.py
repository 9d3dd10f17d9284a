"""What each step of the pipeline is given: made here and nowhere else.

A step's parameters are part of its cache key. So each gets just the settings that it uses, and a fingerprint of the
code that it runs: what TFX's own key leaves out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from pipeline.code_fingerprint import code_fingerprint
from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import Settings

EXAMPLE_GEN_SETTINGS = (
    "model.frames",
    "data.format",
    "data.max_reject_fraction",
    "data.test_fraction",
    "data.max_sentence_length",
    "data.frame_seed",
    "data.pororo_split",
    "data.drop_leaks",
)
VALIDATOR_SETTINGS = ("model.frames", "model.labels", "data.max_sentence_length")
TRANSFORM_SETTINGS = ("model.frames", "model.sentence_size", "data.encoder", "training.init_from")
TRAINER_SETTINGS = ("preset", "model", "training", "data.encoder", "data.max_sentence_length")
JUDGE_SETTINGS = (
    "model.frames",
    "evaluation.seed",
    "evaluation.judge",
    "evaluation.classifier_epochs",
    "evaluation.classifier_stories",
)
EVALUATOR_SETTINGS = ("preset", "model.frames", "evaluation")


@dataclasses.dataclass(frozen=True)
class StepArguments:
    """What travels to code behind a dotted name, in `custom_config`.

    Attributes:
        settings: JSON of the settings that the step uses: one string, so that a cluster can replace it as one runtime
            parameter.
        code: fingerprint of the step's sources.
        work_dir: where a training keeps what it resumes from; empty where a step has none.
        initial: fingerprint of the model that `training.init_from` names; empty where it names none.
        labels: JSON of the names of the stories' labels; empty for none.
    """

    settings: str
    code: str = ""
    work_dir: str = ""
    initial: str = ""
    labels: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the stories' labels."""
        return tuple(json.loads(self.labels or "[]"))

    def to_custom_config(self) -> dict[str, str]:
        """Returns the mapping for a TFX component's `custom_config`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_custom_config(cls, custom_config: Any) -> tuple[StepArguments, Settings]:
        """Reads what `to_custom_config` gave.

        Raises:
            ConfigError: for an unknown key, or settings that do not parse, by name.
        """
        arguments = from_dict(cls, custom_config, "custom_config")
        return arguments, Settings.from_json(arguments.settings)


def transform_arguments(settings: Settings, initial: str = "") -> StepArguments:
    """Returns the arguments of `pipeline.preprocessing`."""
    code = code_fingerprint("pipeline.preprocessing")
    return StepArguments(settings.to_json(*TRANSFORM_SETTINGS), code, initial=initial)


def trainer_arguments(
    settings: Settings, work_dir: str, initial: str = "", label_names: Sequence[str] = ()
) -> StepArguments:
    """Returns the arguments of `pipeline.trainer_module`."""
    return StepArguments(
        settings.to_json(*TRAINER_SETTINGS),
        code_fingerprint("pipeline.trainer_module"),
        work_dir,
        initial,
        json.dumps(list(label_names)),
    )
