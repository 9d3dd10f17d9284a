"""Pororo-SV: stories of five pictures from a cartoon, nine characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset pororo`

Exercised on fixtures only: the data set is available only from its owners (`docs/data.md`), so this preset has no
measured time or scores. It needs a GPU.

The schedule is that of the preset `released`. The image discriminator also has a label classifier.
"""

from __future__ import annotations

import dataclasses

from storygan_tf.config.presets import released
from storygan_tf.config.schema import Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="pororo",
    model=StoryGANConfig(frames=5, labels=9),
    training=TrainConfig(
        phases=tuple(
            dataclasses.replace(phase, label_weight=1.0, generator_label_weight=0.4)
            for phase in released.SETTINGS.training.phases
        )
    ),
)
