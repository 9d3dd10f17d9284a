"""The StoryEvaluator's work: evaluate, draw, report, bless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, path_utils

from storygan_tf import records
from storygan_tf.config import EvaluationConfig, Settings
from storygan_tf.errors import ConfigError
from storygan_tf.evaluation import Evaluation, Generate, draw, evaluate
from storygan_tf.metrics.baselines import evenly
from storygan_tf.report import Content, render_report
from storygan_tf.saved import SavedStoryGAN
from storygan_tf.story_records import StoryRecords, open_split
from storygan_tf.storyboard import StoryRow, storyboard

EXAMPLES = standard_component_specs.EXAMPLES_KEY
MODEL = standard_component_specs.MODEL_KEY
MODEL_RUN = standard_component_specs.MODEL_RUN_KEY
EVALUATION = standard_component_specs.EVALUATION_KEY
BLESSING = standard_component_specs.BLESSING_KEY
SETTINGS = "settings"
CODE_FINGERPRINT = "code_fingerprint"
DATA_FINGERPRINT = "data_fingerprint"
RUN_INFO = "run_info"

METRICS_FILE = "metrics.json"
STORYBOARD_FILE = "storyboard.png"
REPORT_FILE = "report.html"
HISTORY_FILE = "history.json"
COUNTS_FILE = "counts.json"

REASON = "reason"
"""Custom property of a blessing: why it was or was not given."""

STORYBOARD_STORIES = 6


class Executor(base_executor.BaseExecutor):
    """Judges an exported StoryGAN and stamps a blessing as TFX's own Evaluator does."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model.

        Args:
            input_dict: Input dict from input key to a list of artifacts:
                - examples: stories of StoryExampleGen, splits `train` and `test`.
                - model: Trainer's; its serving model is judged.
                - model_run: optional; `history.json` in it is drawn in the report.
            output_dict: Output dict from output key to a list of artifacts:
                - evaluation: `metrics.json`, `storyboard.png`, `report.html`.
                - blessing: an empty file `BLESSED` or `NOT_BLESSED`; custom properties `blessed`, `current_model`,
                  `current_model_id`, `reason`.
            exec_properties: A dict of execution properties:
                - settings: JSON of `storygan_tf.config.Settings`.
                - run_info: optional JSON {"commands": {...}, "settings": {...}} for the report.
                - code_fingerprint, data_fingerprint: part of the cache key; not used.

        Raises:
            ConfigError: for settings that are not valid.
            DataError: for examples that cannot be judged with.
            ModelError: for a model that cannot be loaded, fails, or gives something else than frames.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = Settings.from_json(exec_properties[SETTINGS]).evaluation
        run_info = _run_info(exec_properties)
        examples = artifact_utils.get_single_uri(input_dict[EXAMPLES])
        output = Path(artifact_utils.get_single_uri(output_dict[EVALUATION]))
        model = artifact_utils.get_single_instance(input_dict[MODEL])

        generate = SavedStoryGAN(path_utils.serving_model_path(model.uri)).generate
        train, test = open_split(examples, "train"), open_split(examples, "test")
        evaluation = evaluate(generate, train, test, settings)
        io_utils.write_string_file(str(output / METRICS_FILE), evaluation.to_json())
        _draw_storyboard(generate, test, settings, output / STORYBOARD_FILE)
        content = Content(
            evaluation=evaluation,
            storyboard=(output / STORYBOARD_FILE).read_bytes(),
            history=_history(input_dict),
            counts=_json(f"{examples}/{COUNTS_FILE}") or {},
            rejects=[json.loads(line) for line in _text(f"{examples}/{records.REJECTS_FILE}").splitlines()],
            settings=run_info.get("settings") or json.loads(exec_properties[SETTINGS]),
            commands=run_info.get("commands", {}),
        )
        io_utils.write_string_file(str(output / REPORT_FILE), render_report(content))
        bless(artifact_utils.get_single_instance(output_dict[BLESSING]), model, evaluation)


def bless(blessing: types.Artifact, model: types.Artifact, evaluation: Evaluation) -> None:
    """Marks a blessing so that stock Pusher and LatestBlessedModelStrategy obey it, and logs why it is given or not."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    blessing.set_string_custom_property(REASON, evaluation.reason)
    blessed = constants.BLESSED_VALUE if evaluation.blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    name = constants.BLESSED_FILE_NAME if evaluation.blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(str(Path(blessing.uri) / name), "")
    logging.info("The model is %s: %s", "blessed" if evaluation.blessed else "not blessed", evaluation.reason)


def _draw_storyboard(generate: Generate, test: StoryRecords, settings: EvaluationConfig, path: Path) -> None:
    batch = test.read(evenly(len(test), STORYBOARD_STORIES))
    drawn = draw(generate, batch, settings.seed)
    rows = [
        StoryRow(name, tuple(sentences), {"generated": fake, "true": real})
        for name, sentences, fake, real in zip(batch.ids, batch.sentences, drawn, batch.images, strict=True)
    ]
    storyboard(rows, path)


def _run_info(exec_properties: dict[str, Any]) -> dict[str, Any]:
    try:
        values = json.loads(exec_properties.get(RUN_INFO) or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{RUN_INFO}: not JSON ({error}); found {exec_properties[RUN_INFO][:80]!r}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{RUN_INFO}: found {values!r}, expected an object of `commands` and `settings`.")
    return values


def _history(input_dict: dict[str, list[types.Artifact]]) -> list[dict[str, Any]]:
    if not input_dict.get(MODEL_RUN):
        return []
    return _json(f"{artifact_utils.get_single_uri(input_dict[MODEL_RUN])}/{HISTORY_FILE}") or []


def _json(path: str) -> Any:
    return json.loads(_text(path) or "null")


def _text(path: str) -> str:
    return str(io_utils.read_string_file(path)) if fileio.exists(path) else ""
