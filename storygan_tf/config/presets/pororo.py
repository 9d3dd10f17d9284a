"""Pororo-SV: stories of five pictures from a cartoon, nine characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset pororo`

Exercised on fixtures only: the set is given out by its owners alone (`docs/data.md`), and nobody has trained this
preset on it here. It takes a GPU.

The schedule is the released code's (`docs/model.md`): one update of both discriminators on 24 stories and 24 single
frames, true frames with another story's sentence among the fakes, a label classifier on the image discriminator, two
updates of the generator, 120 passes over the training stories, learning rates halved every 20 of them. The networks are
the paper's, as in the preset `paper`.
"""

from __future__ import annotations

from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="pororo",
    model=StoryGANConfig(frames=5, labels=9),
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
                label_weight=1.0,
                generator_label_weight=0.4,
            ),
        ),
    ),
)
