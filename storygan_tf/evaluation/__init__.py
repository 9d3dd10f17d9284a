"""Evaluation of generated frames: metrics with intervals, baselines to compare them with, and the gate.

A `plan` names stories, frame sources (`frame_sources`, `external_frames`) and judges (`judge`). `measure` computes sums
for each batch of stories, `summary` turns them into an evaluation (`result`), and `gate` compares its metrics with the
configured thresholds. `evaluate` runs these steps in one process; `components.story_evaluator` runs them on Beam. The
formulas are in `storygan_tf.metrics`, pages and files in `storygan_tf.reporting`. Start with `evaluate`.
"""
