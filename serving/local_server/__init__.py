"""A stand-in for TensorFlow Serving in development and tests: its protocol, flags, status codes and version rules.

Production serves with TensorFlow Serving. Requests run in a TF1 session, as there, so that what a graph answers to a
bad request, and when a deadline ends it, is the same. Classify, Regress, MultiInference, TF Lite and the profiler are
not implemented and say so.
"""
