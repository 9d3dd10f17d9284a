"""Executor of JudgeTrainer: writes the judge and describes it in the artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import logging
from tfx.dsl.components.base import base_executor

from components.executor_arguments import Artifacts, ExecutorArguments
from components.spec_names import DESCRIPTION_PROPERTY, EXAMPLES, JUDGE
from storygan_tf.common.progress import counted_progress
from storygan_tf.evaluation.judge.judge import read_judge
from storygan_tf.evaluation.judge.judge_choice import choose_judge


class Executor(base_executor.BaseExecutor):
    """Copies the judge that the settings name (the one of `blocks`, or a folder), or trains one on the examples."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Writes the judge. The step succeeds without a judge if none can be trained on the data.

        Args:
            input_dict:
                - `examples`: single `Examples` artifact of StoryExampleGen. Only the split `train` is read.
            output_dict:
                - `judge`: single `Model` artifact: a saved judge, or the file `absent.json` with the reason why there
                  is none. Custom property `what`: a description of the judge, or that reason.
            exec_properties:
                - `settings`: JSON of `storygan_tf.config.schema.Settings`.
                - `code_fingerprint`: part of the cache key, otherwise unused.

        Raises:
            ConfigError: if the settings are not valid.
            DataError: if the examples cannot be read.
            ModelError: if the judge that the settings name cannot be used, or has labels other than the data's.
        """
        arguments = ExecutorArguments(input_dict, output_dict, exec_properties)
        settings = arguments.settings().evaluation
        artifact = arguments.output(JUDGE)
        with counted_progress("training the judge", "epoch") as progress:
            choose_judge(arguments.input_uri(EXAMPLES), settings, Path(artifact.uri), progress)
        judge, absent = read_judge(artifact.uri)
        description = f"none: {absent}" if judge is None else judge.description
        artifact.set_string_custom_property(DESCRIPTION_PROPERTY, description)
        logging.info("The judge: %s", description)
