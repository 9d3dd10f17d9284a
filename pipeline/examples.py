"""StoryExampleGen's work outside TFX's orchestration: the same executor, on a folder of stories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts

from components.beam_options import beam_options
from components.step_names import DATA_DIR, EXAMPLES, REJECTS_PATH, SETTINGS
from components.story_example_gen import executor
from pipeline.code_fingerprint import code_fingerprint
from pipeline.step_inputs import EXAMPLE_GEN_SETTINGS
from storygan_tf.config.schema import Settings
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint


def example_parts(data: Path, settings: Settings) -> dict[str, Any]:
    """Returns what the records of a folder depend on."""
    return {
        "data": data_fingerprint(data),
        "settings": settings.to_json(*EXAMPLE_GEN_SETTINGS),
        "code": code_fingerprint("components.story_example_gen.executor"),
    }


def make_examples(data: Path, settings: Settings, out: Path, rejects: Path, beam_args: Sequence[str]) -> None:
    """Writes an Examples artifact.

    Args:
        data: folder of stories.
        settings: `model.frames` and `data` of them are used.
        out: the artifact's folder.
        rejects: where to leave a copy of the stories that were set aside, also on failure.
        beam_args: Beam's options.

    Raises:
        DataError: as `components.story_example_gen.executor.Executor.Do`.
    """
    artifact = standard_artifacts.Examples()
    artifact.uri = str(out)
    context = executor.Executor.Context(beam_pipeline_args=beam_options(beam_args))
    executor.Executor(context).Do(
        {},
        {EXAMPLES: [artifact]},
        {
            DATA_DIR: str(data),
            SETTINGS: settings.to_json(*EXAMPLE_GEN_SETTINGS),
            REJECTS_PATH: str(rejects),
        },
    )
