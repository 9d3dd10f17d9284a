"""Good pictures on two CPU cores: 10,000 rendered `blocks` stories, hours of training.

`storygan data render --stories 10000 --test-stories 500 --val-stories 200 --seed 3 --out DIR`
`storygan run --data DIR --out RUN_DIR --preset blocks`

It takes an hour and a half on two CPU cores. On 500 test stories it reaches 0.97 of the label F1 of real frames, 0.71
of their frame accuracy, 0.83 of their placed-object accuracy, an SSIM of 0.981 and a sharpness of 0.83.
`docs/training.md` has all scores, the scores after each phase, and the reason for each setting.

The generator is first trained on pixel losses that weight object pixels more. The adversarial phase keeps the L1 loss,
and evaluates a moving average of the weights. The context vector is twice as wide as the paper's, because it has to
hold up to four objects and their positions. The convolutions are narrower, because more training steps help more than
width.
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
            # Repeating the decay from the full learning rate improves the result of the first.
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
