"""What an evaluation is asked: stories, sources of frames and judges, all small enough to travel to workers."""

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
"""Stories that a worker takes at a time."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """An evaluation, before it is run.

    Attributes:
        train: training stories, for the baselines.
        test: stories that are judged.
        sources: `model`, and `served_model` where there is one.
        background: uint8 [64, 64, 3], the median background of the training frames.
        settings: seed, networks and thresholds.
        judge: folder of the domain judge, as `storygan_tf.evaluation.judge` saves it; where it has none it says why.
        shift: test story r is paired with training story r + shift.
        skip_first_frame: whether the first frame was given to the model and is not judged.
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
    def first(self) -> int:
        """The first frame that is judged."""
        return int(self.skip_first_frame)

    def blocks(self) -> Iterator[range]:
        """Yields the test stories a block at a time: the same batches, however many workers share them."""
        for start in range(0, len(self.test), BLOCK):
            yield range(start, min(start + BLOCK, len(self.test)))

    def paired(self, ranks: range) -> list[int]:
        """Returns the training stories that stand for the random other story of these test stories."""
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
    """Opens the stories of an Examples artifact and makes a plan.

    Args:
        examples: its root, with splits `train` and `test`.
        model: frames to be judged.
        settings: seed, networks and thresholds.
        judge: see `Plan`.
        served: frames of the served model, judged beside the others.
        skip_first_frame: see `Plan`.

    Raises:
        DataError: where a split is missing, or training and test stories do not fit each other.
        ModelError: where the model cannot draw the first stories.
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
    model.frames(first, settings.seed)  # What fails here is told before the work begins.
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
            f"{error} It is the served model that the thresholds are about: remove that version from the push "
            "destination, or push elsewhere."
        ) from error
