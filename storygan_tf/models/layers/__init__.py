"""The layers of StoryGAN, one public layer a file."""
