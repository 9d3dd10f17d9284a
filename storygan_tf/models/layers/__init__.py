"""Layers and functions that the networks of StoryGAN consist of, one public layer a file."""
