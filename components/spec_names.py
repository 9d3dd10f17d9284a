"""Names of the channels and execution properties of our own components.

TFX's metadata stores outputs of earlier runs under these names, so they never change.
"""

from __future__ import annotations

from tfx.types import standard_component_specs

# Channels

EXAMPLES = standard_component_specs.EXAMPLES_KEY
STATISTICS = standard_component_specs.STATISTICS_KEY
SCHEMA = standard_component_specs.SCHEMA_KEY
EXPECTED_SCHEMA = "expected_schema"
ANOMALIES = standard_component_specs.ANOMALIES_KEY
MODEL = standard_component_specs.MODEL_KEY
MODEL_RUN = standard_component_specs.MODEL_RUN_KEY
JUDGE = "judge"
EVALUATION = standard_component_specs.EVALUATION_KEY
BLESSING = standard_component_specs.BLESSING_KEY

# Execution properties

SETTINGS = "settings"
"""JSON of `storygan_tf.config.schema.Settings`, or of those parts of them that the step uses."""

CODE_FINGERPRINT = "code_fingerprint"
"""Fingerprint of the step's code: part of TFX's cache key only, no executor reads it."""

DATA_FINGERPRINT = "data_fingerprint"
"""Fingerprint of the data folder."""

INPUTS_FINGERPRINT = "inputs_fingerprint"
"""Fingerprint of inputs that are no artifacts: part of TFX's cache key only, no executor reads it."""

DATA_DIR = "data_dir"
"""Folder of stories."""

REJECTS_PATH = "rejects_path"
"""File for a copy of the list of rejected stories."""

SERVING_DIR = "serving_dir"
"""The push destination: a model base directory."""

RUN_INFO = "run_info"
"""JSON about the run, for the report and the lineage."""

TRAINING = "training"
"""JSON of training settings, for the report and the lineage."""

TIMEOUT_SECONDS = "timeout_seconds"
"""Time limit of the serving check."""

# Custom properties of artifacts

REASON_PROPERTY = "reason"
"""Custom property of a blessing: why the model was or was not blessed."""

DESCRIPTION_PROPERTY = "what"
"""Custom property of a judge: a description of it, or why there is none."""
