"""Executor of ServingCheck: runs the probe in a separate process, and writes a blessing with a copy of the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.utils import io_utils, path_utils

from components.compat import (
    INFRA_BLESSED_FILE,
    INFRA_BLESSED_PROPERTY,
    INFRA_MODEL_PROPERTY,
    INFRA_NOT_BLESSED_FILE,
)
from components.executor_arguments import Artifacts, ExecutorArguments
from components.serving_check import probe
from components.spec_names import BLESSING, EVALUATION, EXAMPLES, MODEL, REASON_PROPERTY, TIMEOUT_SECONDS
from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.common.model_paths import ASSETS_EXTRA
from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data.example_reader import StoryBatch, open_split
from storygan_tf.export.lineage import LINEAGE_FILE

STAMP_FILE = f"{ASSETS_EXTRA}/serving_check.json"
"""The result of the check, in the copied model: the story, properties of its pictures, and versions."""

_ROOT = Path(__file__).resolve().parents[2]
"""The folder of the project's packages."""


class Executor(base_executor.BaseExecutor):
    """Checks that an export can be served, and writes an InfraBlessing as TFX's InfraValidator does."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Checks the model. The step succeeds even if the model fails the check: the model is then not blessed.

        Args:
            input_dict:
                - `model`: single `Model` artifact of Trainer. Its serving model is checked.
                - `examples`: single `Examples` artifact of StoryExampleGen. The first story of the split `test` is
                  drawn.
                - `evaluation`: single `ModelEvaluation` artifact of StoryEvaluator, optional. Its model card and
                  lineage are copied into the blessed model.
            output_dict:
                - `blessing`: single `InfraBlessing` artifact with an empty file, `INFRA_BLESSED` or
                  `INFRA_NOT_BLESSED`. Custom properties: `blessed` (1 or 0), `reason`, and `has_model` (1) if the
                  folder `stamped_model` holds a copy of the blessed model.
            exec_properties:
                - `timeout_seconds`: time limit for loading the model and for all calls together.
                - `code_fingerprint`: part of the cache key, otherwise unused.

        Raises:
            DataError: if the examples have no test story.
        """
        arguments = ExecutorArguments(input_dict, output_dict, exec_properties)
        blessing = arguments.output(BLESSING)
        story = open_split(arguments.input_uri(EXAMPLES), "test").read([0])
        path = path_utils.serving_model_path(arguments.input_uri(MODEL))
        result = run_probe(path, story, exec_properties[TIMEOUT_SECONDS])
        if result["reason"]:
            _write_blessing(blessing, False, result["reason"])
            return
        _copy_model(path, blessing, {"story_id": story.ids[0]} | result)
        evaluation = arguments.optional_input_uri(EVALUATION)
        if evaluation:
            _copy_model_card(evaluation, blessing)
        _write_blessing(blessing, True, f"the export drew test story {story.ids[0]} in a fresh process.")


def run_probe(model: str, story: StoryBatch, timeout_seconds: int) -> dict[str, Any]:
    """Runs `components.serving_check.probe` on the first story of a batch, and returns its result.

    Args:
        model: folder of the SavedModel.
        story: a batch whose first story is drawn.
        timeout_seconds: time limit of the process.

    Returns:
        The result of `probe.probe_export`. If the model fails the check, or the process is too slow or ends with an
        error, `reason` describes that.
    """
    request = {"model": model, "sentences": story.sentences[0], "image_size": IMAGE_SIZE}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "answer.json"
        try:
            process = subprocess.run(
                [sys.executable, "-m", probe.__name__, str(result)],
                input=json.dumps(request),
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"reason": f"the export did not load and answer within {timeout_seconds} s (timeout_seconds)."}
        if process.returncode != 0 or not result.is_file():
            last = (process.stderr.strip().splitlines() or ["no output on stderr"])[-1]
            reason = f"the process that loaded the export ended with code {process.returncode}: {last[:300]}"
            return {"reason": reason}
        values: dict[str, Any] = json.loads(result.read_text())
        return values


def _environment() -> dict[str, str]:
    """Returns this process's environment with the project's folder on Python's path."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _copy_model(model: str, blessing: types.Artifact, result: dict[str, Any]) -> None:
    """Copies the model into the blessing, with the probe's result in `STAMP_FILE`."""
    target = path_utils.stamped_model_path(blessing.uri)
    io_utils.copy_dir(model, target)
    stamp = {name: value for name, value in result.items() if name != "reason"}
    io_utils.write_string_file(f"{target}/{STAMP_FILE}", json.dumps(stamp, indent=1, sort_keys=True) + "\n")
    blessing.set_int_custom_property(INFRA_MODEL_PROPERTY, 1)


def _copy_model_card(evaluation: str, blessing: types.Artifact) -> None:
    """Copies the model card and the lineage of an evaluation into the blessing's copy of the model."""
    for name in (MODEL_CARD, LINEAGE_FILE):
        target = f"{path_utils.stamped_model_path(blessing.uri)}/{ASSETS_EXTRA}/{name}"
        io_utils.copy_file(f"{evaluation}/{name}", target, overwrite=True)


def _write_blessing(blessing: types.Artifact, blessed: bool, reason: str) -> None:
    """Writes whether the model is blessed, and why, into the blessing's properties and folder, and logs it."""
    logging.info("The export %s: %s", "can be served" if blessed else "cannot be served", reason)
    blessing.set_string_custom_property(REASON_PROPERTY, reason)
    blessing.set_int_custom_property(INFRA_BLESSED_PROPERTY, int(blessed))
    io_utils.write_string_file(f"{blessing.uri}/{INFRA_BLESSED_FILE if blessed else INFRA_NOT_BLESSED_FILE}", "")
