"""The schedule of the code that the paper's authors released (`docs/model.md`), on the networks of the paper.

`storygan run --data DIR --out RUN_DIR --preset released`

Each step does one update of both discriminators on 24 stories and 24 single frames, then two updates of the generator
on all its losses together. The generator's loss is the non-saturating one, and one uniformly drawn frame of each story
stands for the sum over its frames. The fakes include true frames with another story's sentence. Training takes 120
passes over the training stories, and the learning rates are halved every 20 passes. The released code also trains a
label classifier: for data with labels, set `model.labels`, `label_weight` to 1 and `generator_label_weight` to 0.4, as
the presets `pororo` and `flintstones` do.

A step takes seconds on two CPU cores, so a training needs a GPU. It has no measured scores.
"""

from __future__ import annotations

from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="released",
    model=StoryGANConfig(),
    training=TrainConfig(
        phases=(
            PhaseConfig(
                name="adversarial",
                epochs=120,
                schedule="joint",
                image_batch=24,
                story_batch=24,
                generator_steps=2,
                decay="halving",
                mismatched=True,
            ),
        ),
    ),
)
