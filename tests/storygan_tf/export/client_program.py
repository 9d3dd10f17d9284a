"""A client of an exported model that needs only TensorFlow.

`python -I client_program.py MODEL QUESTIONS ANSWERS` runs it in a process of its own, where `-I` keeps this project off
the path. Questions and answers are pickled files. Tests also call `ask` in their own process.
"""

import pickle
import sys
from pathlib import Path

import tensorflow as tf


def ask(model_path, questions):
    """Returns the descriptions of all signatures, the outputs or error of each question, and the imported modules.

    Args:
        model_path: version directory of the export.
        questions: pairs of a signature's name and its inputs, each a value and the name of its type.
    """
    signatures = tf.saved_model.load(model_path).signatures
    answers = {"signatures": {}, "results": []}
    for name, signature in signatures.items():
        specs = signature.structured_input_signature[1].values()
        inputs = {spec.name: (spec.dtype.name, spec.shape.as_list()) for spec in specs}
        outputs = {key: value.dtype.name for key, value in signature.structured_outputs.items()}
        answers["signatures"][name] = (inputs, outputs)
    for name, arguments in questions:
        tensors = {key: tf.constant(value, dtype) for key, (value, dtype) in arguments.items()}
        try:
            outputs = signatures[name](**tensors)
            answers["results"].append({key: value.numpy() for key, value in outputs.items()})
        except tf.errors.InvalidArgumentError as error:
            answers["results"].append(str(error))
    answers["tensorflow"] = tf.__version__
    packages = ("storygan_tf", "tensorflow_hub", "tfx")
    answers["modules"] = [name for name in sys.modules if name.split(".")[0] in packages]
    return answers


def main(model_path, questions_path, answers_path):
    """Writes the answers to a file of questions."""
    questions = pickle.loads(Path(questions_path).read_bytes())
    Path(answers_path).write_bytes(pickle.dumps(ask(model_path, questions)))


if __name__ == "__main__":
    main(*sys.argv[1:])
