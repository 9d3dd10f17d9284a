"""The plan of an evaluation: its stories, sources of frames and judges. A plan can be pickled and sent to workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from storygan_tf.common.errors import DataError, ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.data.background import BACKGROUND_STORIES, evenly_spaced, median_background, story_shift
from storygan_tf.data.example_reader import BATCH, StoryBatch, StoryRecords, open_split
from storygan_tf.evaluation.frame_sources import FrameSource
from storygan_tf.evaluation.metric_names import MODEL, SERVED

BLOCK = 4 * BATCH
"""Number of stories that a worker processes at a time."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The inputs of an evaluation. Use `make_plan` to create one.

    Attributes:
        train: training stories, for the baselines.
        test: stories that are evaluated.
        sources: sources of frames by row: `model`, and `served_model` if there is a served model.
        background: uint8 `[64, 64, 3]`, the median background of the training frames.
        settings: seed, networks and thresholds.
        judge: folder of the domain judge, or of the reason why there is none (`storygan_tf.evaluation.judge`).
        shift: test story r is compared with training story r + shift in the row `random_story`.
        skip_first_frame: whether the model received the first frame, which is then not evaluated.
    """

    train: StoryRecords
    test: StoryRecords
    sources: Mapping[str, FrameSource]
    background: np.ndarray
    settings: EvaluationConfig
    judge: str
    shift: int
    skip_first_frame: bool = False

    @property
    def first_frame(self) -> int:
        """Index of the first frame that is evaluated."""
        return int(self.skip_first_frame)

    def blocks(self) -> Iterator[range]:
        """Yields ranges of test stories. They do not depend on the number of workers, so batches do not either."""
        for start in range(0, len(self.test), BLOCK):
            yield range(start, min(start + BLOCK, len(self.test)))

    def random_stories(self, ranks: range) -> list[int]:
        """Returns the positions of the training stories that the row `random_story` shows for test stories."""
        return [(rank + self.shift) % len(self.train) for rank in ranks]


def make_plan(
    examples: str,
    model: FrameSource,
    settings: EvaluationConfig,
    judge: str,
    *,
    served: FrameSource | None = None,
    skip_first_frame: bool = False,
) -> Plan:
    """Returns the plan of an evaluation. Draws the first stories to find unusable models early.

    Args:
        examples: root folder of an Examples artifact with the splits `train` and `test`.
        model: source of the frames to evaluate.
        settings: seed, networks and thresholds.
        judge: folder of the domain judge (see `Plan`).
        served: source of the served model's frames; None if there is no served model.
        skip_first_frame: whether the model received the first frame, which is then not evaluated.

    Raises:
        DataError: if a split is missing, or training and test stories have different numbers of frames.
        ModelError: if the model or the served model cannot draw the first stories.
    """
    train, test = open_split(examples, "train"), open_split(examples, "test")
    if train.frames != test.frames:
        raise DataError(
            f"test stories: found {test.frames} frames, expected {train.frames} as in the training stories."
        )
    if skip_first_frame and test.frames == 1:
        raise DataError("--skip-first-frame: the stories have 1 frame, expected at least 2.")
    sources = {MODEL: model} if served is None else {MODEL: model, SERVED: served}
    first = test.read(range(min(BATCH, len(test))))
    model.frames(first, settings.seed)  # Raises errors of an unusable model before the long work begins.
    if served is not None:
        _check_served(served, first, settings.seed)
    background = median_background(
        batch.images for batch in train.batches(evenly_spaced(len(train), BACKGROUND_STORIES))
    )
    shift = story_shift(len(train), settings.seed)
    return Plan(train, test, sources, background, settings, judge, shift, skip_first_frame)


def _check_served(served: FrameSource, first: StoryBatch, seed: int) -> None:
    try:
        served.frames(first, seed)
    except ModelError as error:
        raise ModelError(
            f"{error} The model is compared with this served model: remove that version from the push destination, or "
            "push elsewhere."
        ) from error
