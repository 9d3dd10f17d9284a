"""A client of an exported model that needs only TensorFlow.

`python -I client_program.py MODEL CALLS REPORT` runs it in a process of its own, where `-I` keeps this project off
the path. Calls and report are pickled files. Tests also use `call_signatures` in their own process.
"""

import pickle
import sys
from pathlib import Path

import tensorflow as tf


def call_signatures(model_path, calls):
    """Returns the descriptions of all signatures, the outputs or error of each call, and the imported modules.

    Args:
        model_path: version directory of the export.
        calls: pairs of a signature's name and its inputs, each a value and the name of its type.
    """
    signatures = tf.saved_model.load(model_path).signatures
    report = {"signatures": {}, "results": []}
    for name, signature in signatures.items():
        specs = signature.structured_input_signature[1].values()
        inputs = {spec.name: (spec.dtype.name, spec.shape.as_list()) for spec in specs}
        outputs = {key: value.dtype.name for key, value in signature.structured_outputs.items()}
        report["signatures"][name] = (inputs, outputs)
    for name, arguments in calls:
        tensors = {key: tf.constant(value, dtype) for key, (value, dtype) in arguments.items()}
        try:
            outputs = signatures[name](**tensors)
            report["results"].append({key: value.numpy() for key, value in outputs.items()})
        except tf.errors.InvalidArgumentError as error:
            report["results"].append(str(error))
    report["tensorflow"] = tf.__version__
    packages = ("storygan_tf", "tensorflow_hub", "tfx")
    report["modules"] = [name for name in sys.modules if name.split(".")[0] in packages]
    return report


def main(model_path, calls_path, report_path):
    """Writes the report of the calls in a file."""
    calls = pickle.loads(Path(calls_path).read_bytes())
    Path(report_path).write_bytes(pickle.dumps(call_signatures(model_path, calls)))


if __name__ == "__main__":
    main(*sys.argv[1:])
