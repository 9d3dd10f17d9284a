"""The ServingCheck's work: start the probe, wait, stamp a copy of the model or say why not."""

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
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, path_utils

from components.serving_check import probe
from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.common.model_paths import ASSETS_EXTRA
from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data.example_reader import StoryBatch, open_split
from storygan_tf.export.lineage import LINEAGE_FILE

MODEL = standard_component_specs.MODEL_KEY
EXAMPLES = standard_component_specs.EXAMPLES_KEY
EVALUATION = standard_component_specs.EVALUATION_KEY
BLESSING = standard_component_specs.BLESSING_KEY
TIMEOUT_SECONDS = "timeout_seconds"
CODE_FINGERPRINT = "code_fingerprint"

BLESSED_PROPERTY = "blessed"
MODEL_PROPERTY = "has_model"
REASON = "reason"
BLESSED_FILE = "INFRA_BLESSED"
NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
"""The names of TFX's InfraValidator, which Pusher knows; `reason` is ours."""

STAMP = f"{ASSETS_EXTRA}/serving_check.json"
"""Below the copied model: what was asked, what came, and the versions that answered."""

_ROOT = Path(__file__).resolve().parents[2]


class Executor(base_executor.BaseExecutor):
    """Checks that an export can be served, and stamps an InfraBlessing as TFX's InfraValidator does."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks the model. A model that fails is not an error of this step: it is not blessed.

        Args:
            input_dict: Input dict from input key to a list of artifacts:
                - model: Trainer's; its serving model is checked.
                - examples: stories of StoryExampleGen; the first of split `test` is asked.
                - evaluation: optional; StoryEvaluator's, whose model card and lineage are copied into the model.
            output_dict: Output dict from output key to a list of artifacts:
                - blessing: an empty file `INFRA_BLESSED` or `INFRA_NOT_BLESSED`; custom properties `blessed`, `reason`
                  and, where it is blessed, `has_model` with the copy in `stamped_model`.
            exec_properties: A dict of execution properties:
                - timeout_seconds: for loading and all answers together.
                - code_fingerprint: part of the cache key; not used.

        Raises:
            DataError: for examples without a test story.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        story = open_split(artifact_utils.get_single_uri(input_dict[EXAMPLES]), "test").read([0])
        path = path_utils.serving_model_path(model.uri)
        answer = run_probe(path, story, exec_properties[TIMEOUT_SECONDS])
        if answer["reason"]:
            _mark(blessing, False, answer["reason"])
            return
        _copy_stamped(path, blessing, {"story_id": story.ids[0]} | answer)
        if input_dict.get(EVALUATION):
            _copy_papers(artifact_utils.get_single_uri(input_dict[EVALUATION]), blessing)
        _mark(blessing, True, f"the export drew test story {story.ids[0]} in a fresh process.")


def run_probe(model: str, story: StoryBatch, timeout_seconds: int) -> dict[str, Any]:
    """Runs `components.serving_check.probe` and returns its answer.

    Where there is none, for it hung or died, `reason` says so.
    """
    question = {"model": model, "sentences": story.sentences[0], "image_size": IMAGE_SIZE}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        try:
            done = subprocess.run(
                [sys.executable, "-m", probe.__name__, str(answer)],
                input=json.dumps(question),
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"reason": f"the export did not load and answer within {timeout_seconds} s (timeout_seconds)."}
        if done.returncode != 0 or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return {"reason": f"the process that loaded the export ended with code {done.returncode}: {last[:300]}"}
        values: dict[str, Any] = json.loads(answer.read_text())
        return values


def _environment() -> dict[str, str]:
    """Returns this process's environment, with the project's folder on the path wherever it was started."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _copy_stamped(model: str, blessing: types.Artifact, stamp: dict[str, Any]) -> None:
    target = path_utils.stamped_model_path(blessing.uri)
    io_utils.copy_dir(model, target)
    del stamp["reason"]
    io_utils.write_string_file(f"{target}/{STAMP}", json.dumps(stamp, indent=1, sort_keys=True) + "\n")
    blessing.set_int_custom_property(MODEL_PROPERTY, 1)


def _copy_papers(evaluation: str, blessing: types.Artifact) -> None:
    """Puts the model card and the lineage into the copy."""
    for name in (MODEL_CARD, LINEAGE_FILE):
        target = f"{path_utils.stamped_model_path(blessing.uri)}/{ASSETS_EXTRA}/{name}"
        io_utils.copy_file(f"{evaluation}/{name}", target, overwrite=True)


def _mark(blessing: types.Artifact, blessed: bool, reason: str) -> None:
    logging.info("The export %s: %s", "can be served" if blessed else "cannot be served", reason)
    blessing.set_string_custom_property(REASON, reason)
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(blessed))
    io_utils.write_string_file(f"{blessing.uri}/{BLESSED_FILE if blessed else NOT_BLESSED_FILE}", "")
