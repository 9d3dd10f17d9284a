"""The StoryEvaluator's work: evaluate on Beam, report, bless."""

from __future__ import annotations

import json
import platform
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, path_utils

import storygan_tf
from components.story_evaluator.beam_evaluation import evaluate_on_beam
from storygan_tf.common.errors import ConfigError
from storygan_tf.common.model_paths import newest_version
from storygan_tf.config.schema import Settings
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

EXAMPLES = standard_component_specs.EXAMPLES_KEY
MODEL = standard_component_specs.MODEL_KEY
MODEL_RUN = standard_component_specs.MODEL_RUN_KEY
ANOMALIES = standard_component_specs.ANOMALIES_KEY
JUDGE = "judge"
EVALUATION = standard_component_specs.EVALUATION_KEY
BLESSING = standard_component_specs.BLESSING_KEY
SETTINGS = "settings"
SERVING_DIR = "serving_dir"
CODE_FINGERPRINT = "code_fingerprint"
DATA_FINGERPRINT = "data_fingerprint"
INPUTS_FINGERPRINT = "inputs_fingerprint"
RUN_INFO = "run_info"
TRAINING = "training"

REASON = "reason"
"""Custom property of a blessing: why it was or was not given."""


class Executor(base_beam_executor.BaseBeamExecutor):
    """Judges an exported StoryGAN and stamps a blessing as TFX's own Evaluator does."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and beside it the newest version under the push destination.

        Args:
            input_dict: Input dict from input key to a list of artifacts:
                - examples: stories of StoryExampleGen, splits `train` and `test`.
                - model: Trainer's; its serving model is judged.
                - judge: JudgeTrainer's.
                - model_run: optional; `history.json` in it is drawn in the report.
                - anomalies: optional; `anomalies.json` in it is told in the report.
            output_dict: Output dict from output key to a list of artifacts:
                - evaluation: `metrics.json`, `storyboard.png`, `report.html`, `model_card.md`, `lineage.json`.
                - blessing: an empty file `BLESSED` or `NOT_BLESSED`; custom properties `blessed`, `current_model`,
                  `current_model_id`, `reason`.
            exec_properties: A dict of execution properties:
                - settings: JSON of `storygan_tf.config.schema.Settings`.
                - serving_dir: optional; the push destination: a model base directory.
                - run_info: optional JSON {"commands": {...}, "settings": {...}, "code": {step: fingerprint},
                  "environment": {"lock": ..., "packages": ...}, "initial": {"model": ..., "sha256": ...}} for the
                  report and the lineage.
                - training: optional JSON of what the training was told besides `settings`; for the report and the
                  lineage where `run_info` has no settings.
                - data_fingerprint: optional; for the lineage.
                - code_fingerprint, inputs_fingerprint: part of the cache key; not used.

        Raises:
            ConfigError: for settings that are not valid.
            DataError: for examples that cannot be judged with.
            ModelError: for a model that cannot be loaded, fails, or gives something else than frames.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = Settings.from_json(exec_properties[SETTINGS])
        run_info = _run_info(exec_properties)
        examples = artifact_utils.get_single_uri(input_dict[EXAMPLES])
        folder = artifact_utils.get_single_uri(output_dict[EVALUATION])
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        path = path_utils.serving_model_path(model.uri)
        plan = make_plan(
            examples,
            ModelFrames(path),
            settings.evaluation,
            artifact_utils.get_single_uri(input_dict[JUDGE]),
            served=_served(exec_properties.get(SERVING_DIR) or ""),
        )
        evaluation = evaluate_on_beam(plan, self._make_beam_pipeline, folder)
        background = ReportContext(
            history=_optional(input_dict, MODEL_RUN, HISTORY) or [],
            anomalies=_optional(input_dict, ANOMALIES, example_schema.ANOMALIES_FILE),
            settings=_told_settings(exec_properties),
            commands=run_info.get("commands", {}),
            lineage=self._lineage(path, examples, evaluation, exec_properties),
            info=SavedStoryGAN(path).info,
        )
        write_evaluation(folder, examples, plan, evaluation, background)
        bless(artifact_utils.get_single_instance(output_dict[BLESSING]), model, evaluation)

    def _lineage(self, model: str, examples: str, evaluation: Evaluation, properties: dict[str, Any]) -> Lineage:
        run_info = _run_info(properties)
        settings = _told_settings(properties)
        environment = run_info.get("environment", {})
        row = evaluation.row(MODEL_ROW)
        return Lineage(
            run_id=getattr(self._context, "pipeline_run_id", None) or "",
            storygan_version=storygan_tf.__version__,
            data_fingerprint=properties.get(DATA_FINGERPRINT) or "",
            data=read_json(f"{examples}/{example_schema.COUNTS_FILE}") or {},
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


def _served(serving_dir: str) -> ModelFrames | None:
    """Returns the newest version under the push destination, None where there is none."""
    version = newest_version(serving_dir) if serving_dir else ""
    return served_frames(f"{serving_dir}/{version}") if version else None


def bless(blessing: types.Artifact, model: types.Artifact, evaluation: Evaluation) -> None:
    """Marks a blessing so that stock Pusher and LatestBlessedModelStrategy obey it, and logs why it is given or not."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_string_custom_property(REASON, evaluation.reason)
    blessed = constants.BLESSED_VALUE if evaluation.blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    name = constants.BLESSED_FILE_NAME if evaluation.blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")
    logging.info("The model is %s: %s", "blessed" if evaluation.blessed else "not blessed", evaluation.reason)


def _run_info(exec_properties: dict[str, Any]) -> dict[str, Any]:
    try:
        values = json.loads(exec_properties.get(RUN_INFO) or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{RUN_INFO}: not JSON ({error}); found {exec_properties[RUN_INFO][:80]!r}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{RUN_INFO}: found {values!r}, expected an object of `commands` and `settings`.")
    return values


def _told_settings(exec_properties: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that the report and the lineage tell."""
    told: dict[str, Any] | None = _run_info(exec_properties).get("settings")
    if told:
        return told
    given = Settings.from_json(exec_properties[SETTINGS]).with_training(exec_properties.get(TRAINING) or "")
    settings: dict[str, Any] = json.loads(given.to_json())
    return settings


def _optional(input_dict: dict[str, list[types.Artifact]], key: str, file: str) -> Any:
    """Returns what a JSON file of an optional input says, None where there is none."""
    return read_json(f"{artifact_utils.get_single_uri(input_dict[key])}/{file}") if input_dict.get(key) else None
