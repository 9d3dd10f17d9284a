"""The networks of StoryGAN, their losses and their noise; one network a file.

Start reading at `story_generator`: it joins `story_encoder`, `context_encoder` and `image_generator`. The
discriminators are `image_discriminator` and `story_discriminator`, which share the design of `image_trunk`. `layers`
holds the layers that are not networks of their own. `docs/model.md` goes through all of them row by row of the paper.

How the networks are trained is in `storygan_tf.training`, how they are exported in `storygan_tf.export`.
"""
