"""Runs the executor of StoryExampleGen on a folder of stories, without TFX's orchestration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts

from components.beam_options import beam_options
from components.spec_names import DATA_DIR, EXAMPLES, REJECTS_PATH, SETTINGS
from components.story_example_gen import executor
from pipeline.code_fingerprint import code_fingerprint
from pipeline.step_inputs import EXAMPLE_GEN_SETTINGS
from storygan_tf.config.schema import Settings
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint


def example_dependencies(data: Path, settings: Settings) -> dict[str, Any]:
    """Returns what the records of a folder of stories depend on: its data, settings and code."""
    return {
        "data": data_fingerprint(data),
        "settings": settings.to_json(*EXAMPLE_GEN_SETTINGS),
        "code": code_fingerprint("components.story_example_gen.executor"),
    }


def make_examples(data: Path, settings: Settings, out: Path, rejects: Path, beam_args: Sequence[str]) -> None:
    """Writes the stories of a folder as an Examples artifact.

    Args:
        data: folder of stories.
        settings: `model.frames` and `data` are used.
        out: folder of the artifact to write.
        rejects: file for a copy of the rejected stories, which is written even if the call fails.
        beam_args: options for Beam.

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
