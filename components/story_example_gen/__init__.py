"""StoryExampleGen: a folder of stories to checked tf.Examples, split by story."""
