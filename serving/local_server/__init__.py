"""A stand-in for TensorFlow Serving in development and tests, with its protocol, flags, status codes and version rules.

Production serves with TensorFlow Serving itself. As there, requests run in a TF1 session, so that bad requests and
deadlines have the same results. Classify, Regress, MultiInference, TF Lite and the profiler are not implemented;
requests for them fail with UNIMPLEMENTED.

Start reading in `server.py`, which puts the parts together: `manager.py` loads versions, `core.py` answers requests of
both APIs (`grpc_api.py`, `rest_api.py`), `batching.py` merges them, `servable.py` runs the model.
"""
