"""An evaluation on Beam: blocks of test stories are drawn and measured in parallel, and what adds up is combined.

Images stay within a worker: what leaves it are some numbers a story, moments of features and counts, so memory
does not grow with the pictures of a split. Batches are the same however many workers there are.
"""

from __future__ import annotations

import contextlib
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import StoryGANError
from storygan_tf.evaluation.measure import BatchMeasurements, JudgePanel, Measurements, Measurer, MomentsKey, StoryTable
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.evaluation.summary import summarize
from storygan_tf.metrics.frechet import Moments

Advance = Callable[[int], None]
"""Is told how many more stories are done."""

_FEATURES, _COUNTS, _FAILED = "features", "counts", "failed"

_listeners: list[Advance] = []
"""Who hears of progress; workers in other processes have none."""


def evaluate_on_beam(
    plan: Plan, make_pipeline: Callable[[], beam.Pipeline], aside: str, advance: Advance | None = None
) -> Evaluation:
    """Judges the frames of a plan's sources on its test stories.

    Args:
        plan: the evaluation.
        make_pipeline: gives the Beam pipeline to run it on.
        aside: a folder that workers reach, for what is gone at the end.
        advance: is told how many more stories are done, where workers share this process.

    Raises:
        DataError: for records that cannot be read.
        ModelError: for a source of frames, or a judge, that fails.
    """
    panel = JudgePanel.load(plan)
    # Only a file leaves a Beam pipeline on every runner.
    outcome = f"{aside}/.{uuid.uuid4().hex}.outcome"
    with _listening(advance), make_pipeline() as pipeline:
        _build(pipeline, plan, outcome)
    with tf.io.gfile.GFile(outcome, "rb") as file:
        tally, failures = pickle.loads(file.read())
    tf.io.gfile.remove(outcome)
    for error in failures:
        raise error
    return summarize(plan, panel, tally)


def _build(pipeline: beam.Pipeline, plan: Plan, outcome: str) -> None:
    measured = (
        pipeline
        | "Blocks" >> beam.Create(list(plan.blocks()), reshuffle=True)
        | "Measure" >> beam.ParDo(_Measure(plan)).with_outputs(_FEATURES, _COUNTS, _FAILED, main="stories")
    )
    moments = measured[_FEATURES] | "Moments" >> beam.CombinePerKey(CombineMoments())
    counts = measured[_COUNTS] | "Counts" >> beam.CombinePerKey(_add_up)
    _ = (
        pipeline
        | "Once" >> beam.Create([outcome])
        | "Outcome"
        >> beam.Map(
            _write,
            beam.pvalue.AsList(measured.stories),
            beam.pvalue.AsList(moments),
            beam.pvalue.AsList(counts),
            beam.pvalue.AsList(measured[_FAILED]),
        )
    )


class _Measure(beam.DoFn):
    """Measures a block of test stories; a failure is an output, so that its words survive the runner.

    Args:
        plan: the evaluation.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._measurer: Measurer | None = None
        self._failed = False

    def process(self, block: range) -> Iterator[Any]:
        # One failure fails the evaluation: this worker need not go on.
        if not self._failed:
            yield from self._outputs(block)

    def _outputs(self, block: range) -> Iterator[Any]:
        try:
            if self._measurer is None:
                self._measurer = Measurer(self._plan)
            for measured in self._measurer.measure(block):
                yield from _outputs(measured)
                for listener in _listeners:
                    listener(len(measured.stories.ids))
        except StoryGANError as error:
            self._failed = True
            yield beam.pvalue.TaggedOutput(_FAILED, (block.start, error))


def _outputs(measured: BatchMeasurements) -> Iterator[Any]:
    yield measured.stories
    for key, features in measured.features.items():
        yield beam.pvalue.TaggedOutput(_FEATURES, (key, features))
    for name, counts in measured.counts.items():
        yield beam.pvalue.TaggedOutput(_COUNTS, (name, counts))


class CombineMoments(beam.CombineFn):
    """Features `[n, D]` to their `Moments`, a batch at a time, in memory that does not depend on n."""

    def create_accumulator(self) -> Moments | None:  # noqa: D102
        return None

    def add_input(self, accumulator: Moments | None, features: np.ndarray) -> Moments:  # noqa: D102
        return _joined(accumulator, Moments.from_features(features))

    def merge_accumulators(self, accumulators: Iterable[Moments | None]) -> Moments | None:  # noqa: D102
        merged = None
        for moments in accumulators:
            merged = moments if merged is None else _joined(moments, merged)
        return merged

    def extract_output(self, accumulator: Moments | None) -> Moments | None:  # noqa: D102
        return accumulator


def _joined(first: Moments | None, second: Moments) -> Moments:
    return second if first is None else first + second


def _add_up(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.asarray(sum(arrays))


def _write(
    outcome: str,
    stories: list[StoryTable],
    moments: list[tuple[MomentsKey, Moments]],
    counts: list[tuple[tuple[str, str], np.ndarray]],
    failed: list[tuple[int, StoryGANError]],
) -> None:
    tally = Measurements(stories, dict(moments), dict(counts))
    failures = [error for _, error in sorted(failed, key=lambda pair: pair[0])]
    with tf.io.gfile.GFile(outcome, "wb") as file:
        file.write(pickle.dumps((tally, failures)))


@contextlib.contextmanager
def _listening(advance: Advance | None) -> Iterator[None]:
    heard = [] if advance is None else [advance]
    _listeners.extend(heard)
    try:
        yield
    finally:
        for listener in heard:
            _listeners.remove(listener)
