"""Metrics: pure functions of arrays, and the classifier that judges what is seen in a frame."""
