"""JudgeTrainer: trains or copies the judge of a data set, the classifier that StoryEvaluator measures frames with.

`component.py` declares inputs, parameters and outputs; `executor.py` writes the judge. Start with the class
`JudgeTrainer` in `component.py`. How a judge is chosen and trained is in `storygan_tf.evaluation.judge`.
"""
