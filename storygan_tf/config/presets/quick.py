"""A first run in minutes on two CPU cores: a narrow model on a few hundred rendered stories.

`storygan run --data DIR --out RUN_DIR --preset quick`

Four minutes, three of them training, on 400 `blocks` stories (2 cores, 2026-11-30). On 48 test stories: SSIM 0.875
(median background 0.867), placed objects 0.094 (random story 0.037, true frames 0.994), label F1 0.616 (0.621, 0.986).
With 2,400 stories, 180 and 30 epochs: SSIM 0.901, placed objects 0.340, label F1 0.843 on 200 test stories.

The generator is first trained on pixel losses, then shortly with an adversarial loss and the L1 loss. Expect soft blobs
near the right places, not sharp objects.
"""

from __future__ import annotations

from storygan_tf.config.schema import DataConfig, EvaluationConfig, PhaseConfig, Settings, StoryGANConfig, TrainConfig

SETTINGS = Settings(
    preset="quick",
    model=StoryGANConfig(generator_width=128, discriminator_width=16),
    training=TrainConfig(
        steps_per_epoch=100,
        phases=(
            PhaseConfig(
                name="warm_up",
                schedule="pixel",
                epochs=24,
                story_batch=12,
                generator_learning_rate=2e-3,
                beta_1=0.9,
                kl_weight=0.05,
                l1_weight=20.0,
                l2_weight=50.0,
                object_weight=5.0,
                decay="linear",
            ),
            PhaseConfig(
                name="adversarial",
                epochs=2,
                image_batch=12,
                story_batch=12,
                generator_learning_rate=1e-4,
                discriminator_learning_rate=5e-5,
                image_weight=0.1,
                story_weight=0.1,
                kl_weight=0.05,
                l1_weight=100.0,
                object_weight=5.0,
            ),
        ),
    ),
    data=DataConfig(encoder="embedded"),
    evaluation=EvaluationConfig(
        classifier_epochs=25,
        min_ssim_over_random=0.02,
        min_f1_over_floor=0.1,
        # Off: real frames of another story have true colours and shapes, which such a short training does not reach.
        min_f1_over_random=None,
        min_placed_over_random=0.02,
    ),
)
