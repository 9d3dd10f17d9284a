"""The configuration of the paper (Li et al., CVPR 2019), as `docs/model.md` reads it.

`storygan run --data DIR --out RUN_DIR --preset paper`

It follows the equations of the paper, not the released code (preset `released`): full widths, 100 noise values, minimax
losses, an image loss that is summed over all frames of a story, alpha = beta = KL weight = 1, one image update and one
story update in each outer step, on 24 stories each, Adam(2e-4, 0.5, 0.999), and 120 passes over the training stories.
A step takes seconds on two CPU cores, so a training needs a GPU. It has no measured scores.
"""

from __future__ import annotations

from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="paper",
    model=StoryGANConfig(),
    training=TrainConfig(
        phases=(PhaseConfig(name="adversarial", epochs=120, image_frames="all", generator_loss="minimax"),)
    ),
)
