"""Callbacks of `StoryGAN.fit`: parts of a training that react to its progress rather than compute it.

- `step_monitor`: counts and times steps, and checks that losses are finite.
- `epoch_monitor`: draws storyboards, detects divergence and records the epoch.
- `checkpointing`: saves within an epoch, and stops after a signal.

They share a `storygan_tf.training.session.TrainingSession`; `storygan_tf.training.trainer` passes them to `fit`. What
they use is in `divergence` (the kinds of divergence), `interruption` (SIGTERM and SIGINT) and `training_log` (the
history file, TensorBoard). Checkpoints are in `storygan_tf.training.checkpoints`.
"""
