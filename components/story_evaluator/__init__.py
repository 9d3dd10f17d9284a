"""StoryEvaluator: evaluates an exported model on the test stories, writes a report, and blesses the model if it passes.

`component.py` declares inputs, parameters and outputs; `executor.py` writes the evaluation and the blessing;
`beam_evaluation.py` measures the test stories in parallel. Start with the class `StoryEvaluator` in `component.py`. The
metrics are in `storygan_tf.metrics`, the evaluation plan and its summary in `storygan_tf.evaluation`.
"""
