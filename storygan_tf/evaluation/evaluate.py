"""Evaluation of a plan in this process. `components.story_evaluator` runs the same steps on Beam."""

from __future__ import annotations

from storygan_tf.evaluation.measure import Measurements, Measurer
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.evaluation.summary import summarize


def evaluate(plan: Plan) -> Evaluation:
    """Evaluates the frames of a plan's sources on its test stories.

    The same plan gives the same evaluation; the bytes of its JSON are equal.

    Args:
        plan: the stories, sources of frames and judges.

    Raises:
        DataError: if records cannot be read.
        ModelError: if a source of frames or a judge fails.
    """
    measurer, measurements = Measurer(plan), Measurements()
    for block in plan.blocks():
        for batch in measurer.measure(block):
            measurements.add(batch)
    return summarize(plan, measurer.panel, measurements)
