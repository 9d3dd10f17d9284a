"""An evaluation on Beam: blocks of test stories are drawn and measured in parallel, and the measurements combined.

Images never leave a worker. Only a few numbers for each story, moments of features, and counts do, so memory does not
grow with the number of pictures. The batches do not depend on the number of workers.
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
"""A progress callback; its argument is the number of stories that were measured since the last call."""

_FEATURES, _COUNTS, _FAILURES = "features", "counts", "failed"
"""Tags of the additional outputs of `_Measure`."""

_progress_callbacks: list[Advance] = []
"""Callbacks of the evaluations that run in this process; the list is empty in worker processes."""


def evaluate_on_beam(
    plan: Plan, make_pipeline: Callable[[], beam.Pipeline], scratch: str, advance: Advance | None = None
) -> Evaluation:
    """Runs an evaluation on Beam.

    Args:
        plan: the evaluation: test stories, sources of frames, judges.
        make_pipeline: returns a new Beam pipeline.
        scratch: a folder that all workers can use, for a temporary file.
        advance: progress callback; it is called only by workers that are threads of this process.

    Returns:
        The summary of the measurements.

    Raises:
        DataError: if records cannot be read.
        ModelError: if a source of frames or a judge fails.
    """
    panel = JudgePanel.load(plan)
    # A file is the only result of a pipeline that every runner supports.
    outcome = f"{scratch}/.{uuid.uuid4().hex}.outcome"
    with _progress_callback(advance), make_pipeline() as pipeline:
        _build(pipeline, plan, outcome)
    with tf.io.gfile.GFile(outcome, "rb") as file:
        measurements, failures = pickle.loads(file.read())
    tf.io.gfile.remove(outcome)
    for error in failures:
        raise error
    return summarize(plan, panel, measurements)


def _build(pipeline: beam.Pipeline, plan: Plan, outcome: str) -> None:
    """Adds the steps that measure a plan's test stories and write the measurements to the file `outcome`."""
    measured = (
        pipeline
        | "Blocks" >> beam.Create(list(plan.blocks()), reshuffle=True)
        | "Measure" >> beam.ParDo(_Measure(plan)).with_outputs(_FEATURES, _COUNTS, _FAILURES, main="stories")
    )
    moments = measured[_FEATURES] | "Moments" >> beam.CombinePerKey(CombineMoments())
    counts = measured[_COUNTS] | "Counts" >> beam.CombinePerKey(_sum_arrays)
    _ = (
        pipeline
        | "Once" >> beam.Create([outcome])
        | "Outcome"
        >> beam.Map(
            _write_outcome,
            beam.pvalue.AsList(measured.stories),
            beam.pvalue.AsList(moments),
            beam.pvalue.AsList(counts),
            beam.pvalue.AsList(measured[_FAILURES]),
        )
    )


class _Measure(beam.DoFn):
    """Measures blocks of test stories.

    An error of ours becomes an output, because not every runner passes on the message of an exception.

    Args:
        plan: the evaluation.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._measurer: Measurer | None = None
        self._failed = False

    def process(self, block: range) -> Iterator[Any]:
        # One failure fails the whole evaluation, so this worker skips further blocks.
        if not self._failed:
            yield from self._measure(block)

    def _measure(self, block: range) -> Iterator[Any]:
        try:
            if self._measurer is None:
                self._measurer = Measurer(self._plan)
            for measured in self._measurer.measure(block):
                yield from _outputs(measured)
                for callback in _progress_callbacks:
                    callback(len(measured.stories.ids))
        except StoryGANError as error:
            self._failed = True
            yield beam.pvalue.TaggedOutput(_FAILURES, (block.start, error))


def _outputs(measured: BatchMeasurements) -> Iterator[Any]:
    """Yields the measurements of a batch as outputs of `_Measure`."""
    yield measured.stories
    for key, features in measured.features.items():
        yield beam.pvalue.TaggedOutput(_FEATURES, (key, features))
    for name, counts in measured.counts.items():
        yield beam.pvalue.TaggedOutput(_COUNTS, (name, counts))


class CombineMoments(beam.CombineFn):
    """Combines batches of features, float `[n, D]`, to the `Moments` of all, in memory that does not depend on n."""

    def create_accumulator(self) -> Moments | None:  # noqa: D102
        return None

    def add_input(self, accumulator: Moments | None, features: np.ndarray) -> Moments:  # noqa: D102
        return _add_moments(accumulator, Moments.from_features(features))

    def merge_accumulators(self, accumulators: Iterable[Moments | None]) -> Moments | None:  # noqa: D102
        merged = None
        for moments in accumulators:
            merged = moments if merged is None else _add_moments(moments, merged)
        return merged

    def extract_output(self, accumulator: Moments | None) -> Moments | None:  # noqa: D102
        return accumulator


def _add_moments(first: Moments | None, second: Moments) -> Moments:
    return second if first is None else first + second


def _sum_arrays(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.asarray(sum(arrays))


def _write_outcome(
    outcome: str,
    stories: list[StoryTable],
    moments: list[tuple[MomentsKey, Moments]],
    counts: list[tuple[tuple[str, str], np.ndarray]],
    failures: list[tuple[int, StoryGANError]],
) -> None:
    """Writes all measurements and the errors, in the order of their blocks, to the file `outcome`."""
    measurements = Measurements(stories, dict(moments), dict(counts))
    errors = [error for _, error in sorted(failures, key=lambda pair: pair[0])]
    with tf.io.gfile.GFile(outcome, "wb") as file:
        file.write(pickle.dumps((measurements, errors)))


@contextlib.contextmanager
def _progress_callback(advance: Advance | None) -> Iterator[None]:
    """Registers a progress callback, if there is one, until the context ends."""
    callbacks = [] if advance is None else [advance]
    _progress_callbacks.extend(callbacks)
    try:
        yield
    finally:
        for callback in callbacks:
            _progress_callbacks.remove(callback)
