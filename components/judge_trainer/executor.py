"""The JudgeTrainer's work: choose the judge and say which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils, standard_component_specs

from storygan_tf.common.progress import counted_progress
from storygan_tf.config.schema import Settings
from storygan_tf.evaluation.judge.judge import read_judge
from storygan_tf.evaluation.judge.judge_choice import choose_judge

EXAMPLES = standard_component_specs.EXAMPLES_KEY
JUDGE = "judge"
SETTINGS = "settings"
CODE_FINGERPRINT = "code_fingerprint"

WHAT = "what"
"""Custom property of a judge: what it is, or why there is none."""


class Executor(base_executor.BaseExecutor):
    """Takes the frozen judge of `blocks` or a given one, or trains one on the training stories."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the judge. Data that no judge can be trained on is not an error of this step.

        Args:
            input_dict: Input dict from input key to a list of artifacts:
                - examples: stories of StoryExampleGen, split `train`.
            output_dict: Output dict from output key to a list of artifacts:
                - judge: a saved judge, or `absent.json`, which says why there is none; custom property `what`.
            exec_properties: A dict of execution properties:
                - settings: JSON of `storygan_tf.config.schema.Settings`.
                - code_fingerprint: part of the cache key; not used.

        Raises:
            ConfigError: for settings that do not parse.
            DataError: for examples that cannot be read.
            ModelError: for a given judge that is none or that tells other labels.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = Settings.from_json(exec_properties[SETTINGS]).evaluation
        examples = artifact_utils.get_single_uri(input_dict[EXAMPLES])
        artifact = artifact_utils.get_single_instance(output_dict[JUDGE])
        with counted_progress("training the judge", "epoch") as tell:
            choose_judge(examples, settings, Path(artifact.uri), tell)
        judge, absent = read_judge(artifact.uri)
        what = f"none: {absent}" if judge is None else judge.description
        artifact.set_string_custom_property(WHAT, what)
        logging.info("The judge: %s", what)
