"""The seed's specification to the letter (Li et al., CVPR 2019, as read by `docs/model.md`).

`storygan run --data DIR --out RUN_DIR --preset paper`

The equations, not the released code: full widths, noise of 100, alpha = beta = KL weight = 1, one image and one story
update an outer step on 24 stories each, Adam(2e-4, 0.5, 0.999), 120 passes over the training stories. Not trained to
its end here: a step takes seconds on two CPU cores. Use a GPU.
"""

from __future__ import annotations

from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="paper",
    model=StoryGANConfig(),
    training=TrainConfig(phases=(PhaseConfig(name="adversarial", epochs=120),)),
)
