"""Executor of StoryEvaluator: evaluates a model on Beam, and writes the report, the lineage and the blessing."""

from __future__ import annotations

import json
import platform
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.utils import io_utils, path_utils

import storygan_tf
from components.compat import make_beam_pipeline, pipeline_run_id
from components.executor_arguments import Artifacts, ExecutorArguments
from components.spec_names import (
    ANOMALIES,
    BLESSING,
    DATA_FINGERPRINT,
    EVALUATION,
    EXAMPLES,
    JUDGE,
    MODEL,
    MODEL_RUN,
    REASON_PROPERTY,
    RUN_INFO,
    SERVING_DIR,
    TRAINING,
)
from components.story_evaluator.beam_evaluation import evaluate_on_beam
from storygan_tf.common.errors import ConfigError
from storygan_tf.common.model_paths import newest_version
from storygan_tf.data import example_schema
from storygan_tf.data.example_reader import read_json
from storygan_tf.evaluation.frame_sources import ModelFrames, served_frames
from storygan_tf.evaluation.metric_names import MODEL as MODEL_ROW
from storygan_tf.evaluation.plan import make_plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.export.lineage import Lineage, model_fingerprint, settings_fingerprint
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.reporting.evaluation_files import ReportContext, write_evaluation
from storygan_tf.training.trainer import HISTORY


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates an exported StoryGAN, and writes a ModelBlessing as TFX's Evaluator does."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Evaluates the model, and also the newest version under the push destination if there is one.

        Args:
            input_dict:
                - `examples`: single `Examples` artifact of StoryExampleGen, with splits `train` and `test`.
                - `model`: single `Model` artifact of Trainer. Its serving model is evaluated.
                - `judge`: single `Model` artifact of JudgeTrainer.
                - `model_run`: single `ModelRun` artifact of Trainer, optional. The report plots its `history.json`.
                - `anomalies`: single `ExampleAnomalies` artifact of StoryValidator, optional. The report lists its
                  `anomalies.json`.
            output_dict:
                - `evaluation`: single `ModelEvaluation` artifact with `metrics.json`, `storyboard.png`,
                  `report.html`, `model_card.md` and `lineage.json`.
                - `blessing`: single `ModelBlessing` artifact with an empty file, `BLESSED` or `NOT_BLESSED`. Custom
                  properties: `blessed` (1 or 0), `current_model`, `current_model_id` and `reason`.
            exec_properties:
                - `settings`: JSON of `storygan_tf.config.schema.Settings`.
                - `serving_dir`: the push destination, a model base directory; optional.
                - `run_info`: JSON for the report and the lineage, optional: {"commands": {...}, "settings": {...},
                  "code": {step: fingerprint}, "environment": {"lock": ..., "packages": ...}, "initial": {"model": ...,
                  "sha256": ...}}.
                - `training`: JSON of the training settings that `settings` does not contain, optional; for the report
                  and the lineage if `run_info` has no settings.
                - `data_fingerprint`: fingerprint of the data folder, for the lineage; optional.
                - `code_fingerprint`, `inputs_fingerprint`: part of the cache key, otherwise unused.

        Raises:
            ConfigError: if the settings, `run_info` or `training` are not valid.
            DataError: if the examples cannot be used.
            ModelError: if a model cannot be loaded, fails, or does not return frames.
        """
        arguments = ExecutorArguments(input_dict, output_dict, exec_properties)
        settings = arguments.settings().evaluation
        run_info = _run_info(arguments)
        examples = arguments.input_uri(EXAMPLES)
        folder = arguments.output_uri(EVALUATION)
        path = path_utils.serving_model_path(arguments.input_uri(MODEL))
        plan = make_plan(
            examples,
            ModelFrames(path),
            settings,
            arguments.input_uri(JUDGE),
            served=_served_model_frames(arguments.text(SERVING_DIR)),
        )
        evaluation = evaluate_on_beam(plan, lambda: make_beam_pipeline(self), folder)
        background = ReportContext(
            history=_read_optional(arguments, MODEL_RUN, HISTORY) or [],
            anomalies=_read_optional(arguments, ANOMALIES, example_schema.ANOMALIES_FILE),
            settings=_reported_settings(arguments),
            commands=run_info.get("commands", {}),
            lineage=self._lineage(path, evaluation, arguments),
            info=SavedStoryGAN(path).info,
        )
        write_evaluation(folder, examples, plan, evaluation, background)
        write_blessing(arguments.output(BLESSING), arguments.input(MODEL), evaluation)

    def _lineage(self, model: str, evaluation: Evaluation, arguments: ExecutorArguments) -> Lineage:
        """Returns the lineage of a model from its evaluation and the arguments of `Do`."""
        run_info = _run_info(arguments)
        settings = _reported_settings(arguments)
        environment = run_info.get("environment", {})
        row = evaluation.row(MODEL_ROW)
        return Lineage(
            run_id=pipeline_run_id(self),
            storygan_version=storygan_tf.__version__,
            data_fingerprint=arguments.text(DATA_FINGERPRINT),
            data=read_json(f"{arguments.input_uri(EXAMPLES)}/{example_schema.COUNTS_FILE}") or {},
            code=run_info.get("code", {}),
            settings=settings,
            settings_sha256=settings_fingerprint(settings),
            metrics={name: metric.value for name, metric in row.metrics.items()} if row else {},
            blessed=evaluation.blessed,
            reason=evaluation.reason,
            judges={judge.role: judge.sha256 for judge in evaluation.judges},
            lock=environment.get("lock", ""),
            packages=environment.get("packages", ""),
            python=platform.python_version(),
            tensorflow=tf.__version__,
            model_sha256=model_fingerprint(model),
            initial=run_info.get("initial", {}),
        )


def _served_model_frames(serving_dir: str) -> ModelFrames | None:
    """Returns the frames of the newest version under the push destination, or None if there is no version."""
    version = newest_version(serving_dir) if serving_dir else ""
    return served_frames(f"{serving_dir}/{version}") if version else None


def write_blessing(blessing: types.Artifact, model: types.Artifact, evaluation: Evaluation) -> None:
    """Writes whether a model is blessed, and why, into a ModelBlessing artifact, and logs it.

    The artifact is such as TFX's Pusher and LatestBlessedModelStrategy read it.

    Args:
        blessing: the artifact to write.
        model: the evaluated model.
        evaluation: its evaluation.
    """
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_string_custom_property(REASON_PROPERTY, evaluation.reason)
    blessed = constants.BLESSED_VALUE if evaluation.blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    name = constants.BLESSED_FILE_NAME if evaluation.blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")
    logging.info("The model is %s: %s", "blessed" if evaluation.blessed else "not blessed", evaluation.reason)


def _run_info(arguments: ExecutorArguments) -> dict[str, Any]:
    """Returns the JSON object in the property `run_info`, empty if it is left out.

    Raises:
        ConfigError: if the property is not a JSON object.
    """
    text = arguments.text(RUN_INFO)
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{RUN_INFO}: not JSON ({error}); found {text[:80]!r}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{RUN_INFO}: found {values!r}, expected an object of `commands` and `settings`.")
    return values


def _reported_settings(arguments: ExecutorArguments) -> dict[str, Any]:
    """Returns the settings for the report and the lineage: those of `run_info`, or else `settings` and `training`.

    Raises:
        ConfigError: if `run_info`, `settings` or `training` are not valid.
    """
    from_run_info: dict[str, Any] | None = _run_info(arguments).get("settings")
    if from_run_info:
        return from_run_info
    settings: dict[str, Any] = json.loads(arguments.settings().with_training(arguments.text(TRAINING)).to_json())
    return settings


def _read_optional(arguments: ExecutorArguments, name: str, file: str) -> Any:
    """Returns the content of a JSON file of an optional input, or None if the input is left out or has no such file."""
    uri = arguments.optional_input_uri(name)
    return read_json(f"{uri}/{file}") if uri is not None else None
