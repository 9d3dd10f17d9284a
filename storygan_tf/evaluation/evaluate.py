"""Evaluates a plan in this process; `components.story_evaluator` does the same on Beam."""

from __future__ import annotations

from storygan_tf.evaluation.measure import Measurements, Measurer
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.evaluation.summary import summarize


def evaluate(plan: Plan) -> Evaluation:
    """Judges the frames of a plan's sources on its test stories.

    The same plan gives the same evaluation, to the byte of its JSON.

    Raises:
        DataError: for records that cannot be read.
        ModelError: for a source of frames, or a judge, that fails.
    """
    measurer, tally = Measurer(plan), Measurements()
    for block in plan.blocks():
        for measured in measurer.measure(block):
            tally.add(measured)
    return summarize(plan, measurer.panel, tally)
