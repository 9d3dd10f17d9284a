"""The configuration of a run, as frozen, typed dataclasses.

`Settings` holds all of them. `Settings.to_json` writes it as one string, which a cluster can replace as one runtime
parameter. `storygan_tf.config.parsing` reads values into these classes and rejects unknown keys and wrong types.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from storygan_tf.common.errors import ConfigError, require
from storygan_tf.config import parsing

USE_V4 = "https://tfhub.dev/google/universal-sentence-encoder/4"
"""Handle of Universal Sentence Encoder v4 (Cer et al., arXiv:1803.11175)."""

IMAGE_SIZE = 64
"""Height and width of a frame in pixels."""


@dataclasses.dataclass(frozen=True)
class StoryGANConfig:
    """Sizes of the networks (`docs/model.md`). The defaults are those of the paper.

    Attributes:
        frames: number T of sentences and of frames in a story.
        sentence_size: width of a sentence vector after PCA.
        noise_size: width Z of the noise vector that is concatenated to each sentence vector.
        context_size: width of the story encoder's output `h0`, of the GRU and of Text2Gist.
        filter_count: number of filters that the filter network computes from one sentence.
        filter_length: length of each of these filters.
        generator_width: channels of the image generator's first block. Each later block has half as many.
        discriminator_width: channels of a discriminator's first convolution. Each later one has twice as many.
        spectral_norm: whether the discriminators' convolutions are spectrally normalised. The paper does not.
        gist: how Text2Gist combines state and sentence: `filter` is the paper's dynamic convolution, `product` is the
            element-wise product, for comparison.
        story_noise: whether `h0` is sampled, as in the paper. If false, it is the mean of its distribution.
        labels: number of labels of a frame that the image discriminator's auxiliary classifier predicts. 0 for no
            classifier, as in the paper.
    """

    frames: int = 4
    sentence_size: int = 128
    noise_size: int = 100
    context_size: int = 128
    filter_count: int = 16
    filter_length: int = 64
    generator_width: int = 512
    discriminator_width: int = 64
    spectral_norm: bool = False
    gist: Literal["filter", "product"] = "filter"
    story_noise: bool = True
    labels: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "labels" else 1
            require(
                isinstance(value, bool | str) or value >= least,
                f"model.{field.name}",
                value,
                f"a whole number, at least {least}",
            )
        require(self.generator_width % 8 == 0, "model.generator_width", self.generator_width, "a multiple of 8")
        require(
            self.context_size % self.filter_count == 0 and self.context_size % 16 == 0,
            "model.context_size",
            self.context_size,
            "a multiple of 16 and of model.filter_count",
        )
        require(
            self.filter_length >= self.filter_stride and (self.filter_length - self.filter_stride) % 2 == 0,
            "model.filter_length",
            self.filter_length,
            f"at least model.filter_count ({self.filter_stride}), and both even or both odd",
        )

    @property
    def filter_stride(self) -> int:
        """Stride of the dynamic convolution with which `filter_count` filters give a gist of `context_size` numbers."""
        return self.filter_count


_NOT_NEGATIVE = (
    "image_steps",
    "story_steps",
    "generator_learning_rate",
    "discriminator_learning_rate",
    "image_weight",
    "story_weight",
    "kl_weight",
    "l1_weight",
    "l2_weight",
    "object_weight",
    "label_weight",
    "generator_label_weight",
    "feature_matching_weight",
)
"""Fields of `PhaseConfig` that have to be finite and at least 0."""


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """One phase of a training: its length, schedule, losses and learning rates.

    Attributes:
        name: name of the phase in logs and overrides (`training.phases.NAME.epochs=3`).
        epochs: number of epochs, of `TrainConfig.steps_per_epoch` outer steps each. 0 skips the phase.
        schedule: `algorithm1` does image updates, then story updates in each outer step (the paper's Algorithm 1).
            `joint` does one update of both discriminators, then `generator_steps` updates of the generator on the sum
            of all its losses (the released code). `pixel` trains only the generator, on pixel losses and KL divergence.
        image_batch: number of stories in the mini-batch of an image update.
        image_frames: `all` uses all frames of these stories, as the paper's sum over t does. `one` uses one uniformly
            drawn frame of each and multiplies its loss by T, an unbiased estimate of the sum at 1/T of the cost.
        story_batch: number of stories in the mini-batch of a story update, or of a step of the `pixel` schedule.
        image_steps: number of image updates in an outer step of `algorithm1`.
        story_steps: number of story updates in an outer step of `algorithm1` or `pixel`.
        generator_steps: number of generator updates in an outer step of `joint`.
        generator_learning_rate: learning rate of Adam for the generator.
        discriminator_learning_rate: learning rate of Adam for both discriminators.
        beta_1: first decay rate of Adam.
        beta_2: second decay rate of Adam.
        decay: `constant` keeps the learning rates. `linear` reduces them to 0 over the second half of the phase.
            `halving` halves them every 20 epochs, as the released code does.
        image_weight: weight alpha of the image discriminator's term in the generator's loss.
        story_weight: weight beta of the story discriminator's term in the generator's loss.
        kl_weight: weight of the KL divergence of the distribution of `h0` from N(0, I).
        generator_loss: `non_saturating` or `minimax` (Goodfellow et al., arXiv:1406.2661, section 3).
        l1_weight: weight of the mean absolute difference between generated and true pixels; 0 in the paper.
        l2_weight: weight of the mean squared difference between generated and true pixels; 0 in the paper.
        object_weight: weight in these two losses of true pixels that differ from the median background. All other
            pixels have weight 1.
        mismatched: whether the image discriminator also gets true frames with the sentence of another story, as fakes
            (Reed et al., arXiv:1605.05396). Its loss then is `real + (fake + mismatched) / 2`.
        label_weight: weight of the auxiliary label classifier on true frames in the image discriminator's loss (Odena
            et al., arXiv:1610.09585). It needs `model.labels`.
        generator_label_weight: weight of the auxiliary label classifier on generated frames in the generator's loss.
        feature_matching_weight: weight of the mean absolute difference between the image discriminator's features of
            true and of generated frames (Salimans et al., arXiv:1606.03498; per frame as in Wang et al.,
            arXiv:1711.11585).
        average: decay of the moving average of the generator's weights and statistics. The average is evaluated and
            exported. 0 for no average.
    """

    name: str = "adversarial"
    epochs: int = 1
    schedule: Literal["algorithm1", "joint", "pixel"] = "algorithm1"
    image_batch: int = 24
    image_frames: Literal["one", "all"] = "one"
    story_batch: int = 24
    image_steps: int = 1
    story_steps: int = 1
    generator_steps: int = 1
    generator_learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    decay: Literal["constant", "linear", "halving"] = "constant"
    image_weight: float = 1.0
    story_weight: float = 1.0
    kl_weight: float = 1.0
    generator_loss: Literal["non_saturating", "minimax"] = "non_saturating"
    l1_weight: float = 0.0
    l2_weight: float = 0.0
    object_weight: float = 1.0
    mismatched: bool = False
    label_weight: float = 0.0
    generator_label_weight: float = 0.0
    feature_matching_weight: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        phase = f"training.phases.{self.name}"
        require(
            bool(self.name) and not self.name.isdigit(),
            "training.phases: name",
            self.name,
            "a name that is not a number",
        )
        for field, least in (("epochs", 0), ("image_batch", 1), ("story_batch", 1)):
            value = getattr(self, field)
            require(value >= least, f"{phase}.{field}", value, f"at least {least}")
        for field in _NOT_NEGATIVE:
            value = getattr(self, field)
            require(value >= 0 and math.isfinite(value), f"{phase}.{field}", value, "a finite number, at least 0")
        for field in ("beta_1", "beta_2", "average"):
            require(0 <= getattr(self, field) < 1, f"{phase}.{field}", getattr(self, field), "at least 0, below 1")
        require(self.image_steps + self.story_steps > 0, f"{phase}.story_steps", 0, "at least 1 if image_steps is 0")
        require(self.generator_steps >= 1, f"{phase}.generator_steps", self.generator_steps, "at least 1")
        require(
            self.image_batch > 1 or not self.mismatched, f"{phase}.image_batch", 1, "at least 2 if mismatched is true"
        )
        if self.schedule == "pixel":
            require(
                self.l1_weight + self.l2_weight > 0,
                f"{phase}.l1_weight",
                0.0,
                "above 0, or l2_weight above 0, in the schedule pixel",
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes:
        seed: seed of the initial weights, the order of the data and the noise.
        steps_per_epoch: number of outer steps in an epoch; 0 for one pass over the training stories.
        phases: the phases in their order.
        strategy: distribution strategy: `auto` (all GPUs of the machine, otherwise one device), `one-device`,
            `mirrored`, `multi-worker` (`TF_CONFIG` names the workers) or `tpu`.
        xla: whether XLA compiles the training steps.
        mixed_precision: whether layers compute in 16 bits (bfloat16 on TPU, float16 with loss scaling on GPU). Weights
            stay float32.
        storyboard_stories: number of test stories that are drawn after each epoch.
        validation_stories: largest number of stories of split `val` that the model is measured on after each epoch.
        keep_best: the weights that a training ends with: those after the epoch of the last phase with the best value
            of this validation figure or loss; empty for those after the last epoch.
        init_from: model or run whose weights, sentence encoder and PCA the training starts from (`--init-from`); empty
            for random weights.
        rollbacks: how often a training that diverges may return to its last good checkpoint and halve the learning
            rates. One more divergence fails the training.
    """

    seed: int = 1
    steps_per_epoch: int = 0
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    strategy: Literal["auto", "one-device", "mirrored", "multi-worker", "tpu"] = "auto"
    xla: bool = False
    mixed_precision: bool = False
    storyboard_stories: int = 4
    validation_stories: int = 64
    keep_best: Literal["", "ssim", "l1", "l2"] = ""
    init_from: str = ""
    rollbacks: int = 3

    def __post_init__(self) -> None:
        epochs = [phase.epochs for phase in self.phases]
        require(any(epochs), "training.phases: epochs", epochs, "at least one phase with at least one epoch")
        names = [phase.name for phase in self.phases]
        require(len(set(names)) == len(names), "training.phases", names, "different names")
        require(0 <= self.seed < 2**32, "training.seed", self.seed, "a whole number from 0 to 2^32 - 1")
        require(self.steps_per_epoch >= 0, "training.steps_per_epoch", self.steps_per_epoch, "at least 0")
        require(self.rollbacks >= 0, "training.rollbacks", self.rollbacks, "at least 0")
        require(self.validation_stories >= 0, "training.validation_stories", self.validation_stories, "at least 0")

    @property
    def active_phases(self) -> tuple[PhaseConfig, ...]:
        """The phases that have at least one epoch."""
        return tuple(phase for phase in self.phases if phase.epochs)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Settings for converting stories into records.

    Attributes:
        encoder: sentence encoder: a tensorflow_hub handle, the path of a SavedModel, or `embedded`.
        format: layout of the data folder; `auto` detects it.
        max_reject_fraction: largest fraction of rejected stories. A run with more of them fails.
        test_fraction: fraction of the stories that become test stories if the data does not define splits.
        val_fraction: fraction of the training stories that become validation stories if the data has none.
        val_seed: seed of the choice of these stories.
        long_stories: what becomes of stories of more than `model.frames` frames: `cut` keeps their first frames,
            `split` makes several stories of them.
        max_sentence_length: largest number of characters in a sentence.
        frame_seed: seed for choosing one frame from each strip of Pororo-SV and each clip of FlintstonesSV.
        pororo_split: split of Pororo-SV: `seen-unseen`, which most papers use, or the older `train-test`.
        drop_leaks: whether validation and test stories of FlintstonesSV are dropped if they contain clips of training
            stories.
    """

    encoder: str = USE_V4
    format: Literal["auto", "story-folder", "clevr-sv", "pororo-sv", "flintstones-sv", "parquet"] = "auto"
    max_reject_fraction: float = 0.01
    test_fraction: float = 0.1
    val_fraction: float = 0.05
    val_seed: int = 0
    long_stories: Literal["cut", "split"] = "cut"
    max_sentence_length: int = 1000
    frame_seed: int = 0
    pororo_split: Literal["seen-unseen", "train-test"] = "seen-unseen"
    drop_leaks: bool = False

    def __post_init__(self) -> None:
        require(bool(self.encoder), "data.encoder", self.encoder, "a handle, a path or 'embedded'")
        for field in ("max_reject_fraction", "test_fraction", "val_fraction"):
            value = getattr(self, field)
            require(0 <= value <= 1, f"data.{field}", value, "a fraction from 0 to 1")
        require(self.max_sentence_length >= 1, "data.max_sentence_length", self.max_sentence_length, "at least 1")
        require(0 <= self.val_seed < 2**32, "data.val_seed", self.val_seed, "a whole number from 0 to 2^32 - 1")
        require(0 <= self.frame_seed < 2**32, "data.frame_seed", self.frame_seed, "a whole number from 0 to 2^32 - 1")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the evaluation, and the thresholds that a model must pass to be pushed.

    The value null turns a threshold off. Thresholds on label F1 and placed-object accuracy apply only if there is a
    trusted judge. A `max_` threshold compares with the served model; a model fails it only if the whole 95% confidence
    interval of the difference is beyond the threshold.

    Attributes:
        seed: seed of the generator's noise, the choice of random stories, the bootstrap and the training of a judge.
        judge: `auto` (the frozen judge for `blocks`, otherwise one trained on the training stories), `train`, or the
            path of a saved judge.
        classifier_epochs: number of passes over the training frames when a judge is trained.
        classifier_stories: largest number of training stories that a judge is trained on. They are evenly chosen.
        fid_network: JSON file that describes the network of the metric `fid` (`docs/networks.md`); empty to leave the
            metric out.
        fsd_network: JSON file that describes the network of the metric `fsd`; empty to leave the metric out.
        label_network: JSON file that describes the network of the metrics `character_f1` and `character_accuracy`;
            empty to leave them out.
        replicates: number of bootstrap replicates for each confidence interval. Intervals of Frechet distances use a
            jackknife instead.
        min_ssim_over_random: SSIM must exceed that of a random training story by more than this.
        min_f1_over_floor: label F1 must exceed that of the median background by more than this.
        min_f1_over_random: label F1 must exceed that of a random training story by more than this.
        min_placed_over_random: placed-object accuracy must exceed that of a random training story by more than this.
        min_object_gain: object error must be lower than that of the median background by more than this fraction of it.
            Applies only if no threshold on label F1 or placed-object accuracy does.
        max_ssim_drop: largest drop of SSIM below the served model's.
        max_f1_drop: largest drop of label F1 below the served model's.
        max_placed_drop: largest drop of placed-object accuracy below the served model's.
        max_object_error_rise: largest rise of object error above the served model's, in grey levels.
        max_fid_rise: largest rise of `fid_domain` above the served model's.
    """

    seed: int = 1
    judge: str = "auto"
    classifier_epochs: int = 40
    classifier_stories: int = 1000
    fid_network: str = ""
    fsd_network: str = ""
    label_network: str = ""
    replicates: int = 1000
    min_ssim_over_random: float | None = 0.0
    min_f1_over_floor: float | None = 0.0
    min_f1_over_random: float | None = 0.0
    min_placed_over_random: float | None = 0.0
    min_object_gain: float | None = 0.0
    max_ssim_drop: float | None = 0.02
    max_f1_drop: float | None = 0.0
    max_placed_drop: float | None = 0.0
    max_object_error_rise: float | None = 0.0
    max_fid_rise: float | None = 0.0

    def __post_init__(self) -> None:
        for field in ("classifier_epochs", "classifier_stories"):
            require(getattr(self, field) >= 1, f"evaluation.{field}", getattr(self, field), "at least 1")
        require(self.replicates >= 40, "evaluation.replicates", self.replicates, "at least 40")
        require(0 <= self.seed < 2**32, "evaluation.seed", self.seed, "a whole number from 0 to 2^32 - 1")
        require(bool(self.judge), "evaluation.judge", self.judge, "'auto', 'train' or the path of a saved judge")
        for name, value in dataclasses.asdict(self).items():
            if name.startswith(("min_", "max_")) and value is not None:
                require(math.isfinite(value), f"evaluation.{name}", value, "a finite number, or null")


@dataclasses.dataclass(frozen=True)
class ServingConfig:
    """Settings of the optional steps after a model has passed the gate.

    Attributes:
        bulk_infer: split whose stories TFX's BulkInferrer draws (`docs/batch.md`); empty to leave the step out.
    """

    bulk_infer: Literal["", "train", "val", "test"] = ""


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Attributes:
        preset: name of the preset that the settings started from.
        model: sizes of the networks.
        training: phases and other settings of the training.
        data: settings for converting stories into records.
        evaluation: settings of the evaluation, and the thresholds of the gate.
        serving: settings of the optional steps after the gate.
    """

    preset: str = "paper"
    model: StoryGANConfig = StoryGANConfig()
    training: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()

    def to_json(self, *parts: str) -> str:
        """Returns the settings, or the named parts of them, as one line of JSON with sorted keys.

        A pipeline step that gets only the parts it uses is not run again when other settings change.

        Args:
            *parts: sections (`training`) or single fields (`model.frames`). Without any, all settings are returned.
        """
        values = dataclasses.asdict(self)
        if not parts:
            return json.dumps(values, sort_keys=True)
        chosen: dict[str, Any] = {}
        for part in parts:
            section, _, field = part.partition(".")
            if field:
                chosen.setdefault(section, {})[field] = values[section][field]
            else:
                chosen[section] = values[section]
        return json.dumps(chosen, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Reads settings that `to_json` wrote. Fields that are absent keep their defaults.

        Raises:
            ConfigError: if `text` is not a JSON object, a key is unknown, or a value is of the wrong type or out of
                range.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"settings: not JSON ({error}); found {text[:80]!r}.") from error
        return parsing.from_dict(cls, values)

    def override(self, assignments: Sequence[str]) -> Settings:
        """Returns a copy of the settings with each ``key=value`` applied (`training.phases.warm_up.epochs=3`).

        Args:
            assignments: see `storygan_tf.config.parsing.override`.

        Raises:
            ConfigError: if an assignment has no ``=``, a key is unknown, or a value is of the wrong type or out of
                range.
        """
        return parsing.override(self, assignments)

    def with_training(self, text: str) -> Settings:
        """Returns a copy of the settings with training settings that a cluster got when the run was submitted.

        Args:
            text: a JSON object that maps keys below `training` to values, such as
                `{"seed": 3, "phases.warm_up.epochs": 2}`; empty for no changes.

        Raises:
            ConfigError: if `text` is not a JSON object, a key is unknown, or a value is of the wrong type or out of
                range.
        """
        try:
            values = json.loads(text or "{}")
        except json.JSONDecodeError as error:
            raise ConfigError(f"training: not JSON ({error}); found {text[:80]!r}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f'training: found {text[:80]!r}, expected a JSON object, such as {{"seed": 3}}.')
        return self.override([f"training.{key}={json.dumps(value)}" for key, value in values.items()])

    def changes(self, other: Settings) -> list[str]:
        """Returns the ``key=value`` assignments that turn `other` into these settings, except for `preset`."""
        before, after = (json.loads(settings.to_json()) for settings in (other, self))
        return [change for change in parsing.assignments_between(before, after) if not change.startswith("preset=")]
