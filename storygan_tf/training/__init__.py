"""Training of StoryGAN, from objectives to the exported model.

Start reading at `storygan`, the Keras model whose `train_step` is one outer step. `train_schedules` holds the updates
of a step, `objectives` their losses. `trainer` trains each phase by `fit` on the devices of `distribution`; its
`callbacks` share a `session`, which has the `training_state` and the `checkpoints`. `train_and_export` is the whole
training as the pipeline and `storygan train` run it; `warm_start` and `reexport` begin with an exported model.

The networks and their losses are in `storygan_tf.models`, the input pipeline in `storygan_tf.data`.
"""
