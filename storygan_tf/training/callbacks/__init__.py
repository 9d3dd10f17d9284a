"""Parts of a training that react to its progress rather than compute it.

- `interruption`: stops a training at the next checkpoint after SIGTERM or SIGINT.
- `training_log`: writes the history file, and losses and pictures for TensorBoard.
- `divergence`: detects that a training has gone wrong.

`storygan_tf.training.trainer` calls all three. Checkpoints are not here but in `storygan_tf.training.checkpoints`.
"""
