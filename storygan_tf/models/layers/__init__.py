"""Layers and functions that the networks of StoryGAN consist of, one public layer a file.

Start reading at `text2gist`, the paper's recurrent layer, and `upsample_conv`, the block of the image generator. The
networks themselves are in `storygan_tf.models`.
"""
