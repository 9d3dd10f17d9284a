"""Pororo-SV: stories of five pictures from a cartoon, nine characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset pororo`

Exercised on fixtures only: the data set is available only from its owners (`docs/data.md`), so this preset has no
measured time or scores. It needs a GPU.

The schedule is that of the released code (`docs/model.md`): each step does one update of both discriminators on 24
stories and 24 single frames, then two updates of the generator. The fakes include true frames with another story's
sentence, and the image discriminator has a label classifier. Training takes 120 passes over the training stories, and
the learning rates are halved every 20 passes. The networks are those of the preset `paper`.
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
