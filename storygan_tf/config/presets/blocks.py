"""Good pictures on two CPU cores: 10,000 rendered `blocks` stories, hours of training.

`storygan data render --stories 10000 --test-stories 500 --seed 3 --out DIR`
`storygan run --data DIR --out RUN_DIR --preset blocks`

It takes an hour and a half on two CPU cores and reaches, on 500 test stories, 0.97 of the ceiling's label F1, 0.71 of
its frame accuracy, 0.83 of its placed objects, an SSIM of 0.981 and a sharpness of 0.83. `docs/training.md` has the
figures, those after each phase, and what led to each setting.

The generator is warmed up by pixel losses, object pixels weighted, then trained adversarially with the pixel loss kept
as a leash and a moving average of its weights. Wider context than the seed's (256 numbers for up to four objects and
their places), narrower convolutions: steps are worth more than width.
"""

from __future__ import annotations

import dataclasses

from storygan_tf.config.schema import DataConfig, EvaluationConfig, PhaseConfig, Settings, StoryGANConfig, TrainConfig

_WARM_UP = PhaseConfig(
    name="warm_up",
    schedule="pixel",
    epochs=40,
    story_batch=12,
    generator_learning_rate=2e-3,
    beta_1=0.9,
    kl_weight=0.002,
    l1_weight=20.0,
    l2_weight=50.0,
    object_weight=5.0,
    average=0.999,
    decay="linear",
)

SETTINGS = Settings(
    preset="blocks",
    model=StoryGANConfig(context_size=256, generator_width=192, discriminator_width=32, spectral_norm=True, labels=15),
    training=TrainConfig(
        phases=(
            _WARM_UP,
            # Once more from the full rate down: a second descent finds what the first has passed by.
            dataclasses.replace(_WARM_UP, name="refine"),
            PhaseConfig(
                name="adversarial",
                schedule="joint",
                epochs=3,
                image_batch=12,
                story_batch=12,
                generator_learning_rate=3e-4,
                discriminator_learning_rate=4e-4,
                decay="linear",
                image_weight=0.04,
                story_weight=0.04,
                kl_weight=0.002,
                l1_weight=100.0,
                object_weight=5.0,
                mismatched=True,
                label_weight=1.0,
                generator_label_weight=0.1,
                feature_matching_weight=200.0,
                average=0.998,
            ),
        ),
    ),
    data=DataConfig(encoder="embedded"),
    evaluation=EvaluationConfig(
        min_ssim_over_random=0.05, min_f1_over_floor=0.5, min_f1_over_random=0.05, min_placed_over_random=0.1
    ),
)
