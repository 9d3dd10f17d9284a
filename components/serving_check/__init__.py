"""ServingCheck: loads an exported model in a fresh process, draws one story with it, and blesses a copy for Pusher.

`component.py` declares inputs, parameters and outputs; `executor.py` runs the check and writes the blessing;
`probe.py` is the program of the fresh process, which imports TensorFlow and nothing of this project. Start with the
class `ServingCheck` in `component.py`.
"""
