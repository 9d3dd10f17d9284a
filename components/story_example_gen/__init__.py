"""StoryExampleGen: reads a folder of stories, rejects unusable ones, and writes the others as tf.Examples in splits.

`component.py` declares parameters and outputs; `executor.py` does the work on Beam. Start with the class
`StoryExampleGen` in `component.py`. How the layouts of data folders are read is in `storygan_tf.data.datasets`; the
format of the tf.Examples is in `storygan_tf.data.example_schema`.
"""
