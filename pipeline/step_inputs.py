"""The settings and arguments that each step of the pipeline receives.

The parameters of a step are part of its cache key. Therefore each step receives only the settings that it uses, and a
fingerprint of the code that it runs, which TFX's cache key does not contain.
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
    "data.val_fraction",
    "data.val_seed",
    "data.long_stories",
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
    """Arguments that Transform and Trainer pass to the project's functions in `custom_config`.

    Attributes:
        settings: JSON of the settings that the step uses; one string, which a cluster can replace by one runtime
            parameter.
        code: fingerprint of the code that the step runs.
        work_dir: folder of the checkpoints that a training resumes from; empty for other steps.
        initial: fingerprint of the model in `training.init_from`; empty if that is empty.
        labels: JSON list of the names of the stories' labels; empty for none.
    """

    settings: str
    code: str = ""
    work_dir: str = ""
    initial: str = ""
    labels: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the stories' labels."""
        return tuple(json.loads(self.labels or "[]"))

    def to_custom_config(self) -> dict[str, str]:
        """Returns the arguments as a dictionary for the `custom_config` of a TFX component."""
        return dataclasses.asdict(self)

    @classmethod
    def from_custom_config(cls, custom_config: Any) -> tuple[StepArguments, Settings]:
        """Reads a dictionary that `to_custom_config` returned.

        Returns:
            The arguments, and their `settings` as an object.

        Raises:
            ConfigError: if a key is unknown, or if the settings cannot be parsed.
        """
        arguments = from_dict(cls, custom_config, "custom_config")
        return arguments, Settings.from_json(arguments.settings)


def transform_arguments(settings: Settings, initial: str = "") -> StepArguments:
    """Returns the arguments of `pipeline.preprocessing.preprocessing_fn`.

    Args:
        settings: all settings of the run.
        initial: fingerprint of the model in `training.init_from`; empty if that is empty.
    """
    code = code_fingerprint("pipeline.preprocessing")
    return StepArguments(settings.to_json(*TRANSFORM_SETTINGS), code, initial=initial)


def trainer_arguments(
    settings: Settings, work_dir: str, initial: str = "", label_names: Sequence[str] = ()
) -> StepArguments:
    """Returns the arguments of `pipeline.trainer_module.run_fn`.

    Args:
        settings: all settings of the run.
        work_dir: folder of the checkpoints that the training resumes from.
        initial: fingerprint of the model in `training.init_from`; empty if that is empty.
        label_names: names of the stories' labels.
    """
    return StepArguments(
        settings.to_json(*TRAINER_SETTINGS),
        code_fingerprint("pipeline.trainer_module"),
        work_dir,
        initial,
        json.dumps(list(label_names)),
    )
