"""Metrics: pure functions of arrays, and the networks that a user gives for the figures of the field."""
