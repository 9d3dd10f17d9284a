"""Serving of exported models: clients, a local server for development, batch inference, TensorFlow Serving's files.

- `client.py` (gRPC) and `rest_client.py` request stories from a server. Start reading in `base_client.py`, their base.
- `local_server/` stands in for TensorFlow Serving; `tf_serving/` holds what the real one is run with.
- `batch_inference.py` draws files of stories with Beam.
- `compat.py` holds all uses of private parts of libraries.

The export itself (`storygan_tf/export/`) and the command line (`storygan_cli/`) are not here.
"""
