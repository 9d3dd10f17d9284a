"""StoryEvaluator: judges an exported StoryGAN on the test stories, and blesses it or says why not."""
