"""The configuration: frozen, typed dataclasses, strict about names and types.

`Settings` holds everything that a run is made of. It travels as one JSON string (`Settings.to_json`), so that a cluster
can replace it as one runtime parameter, and an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

from storygan_tf.common.errors import ConfigError, nearest, require

USE_V4 = "https://tfhub.dev/google/universal-sentence-encoder/4"
"""Handle of Universal Sentence Encoder v4 (Cer et al., arXiv:1803.11175)."""

IMAGE_SIZE = 64
"""Height and width of a frame in pixels."""

Dataclass = TypeVar("Dataclass")


@dataclasses.dataclass(frozen=True)
class StoryGANConfig:
    """Sizes of the networks (`docs/model.md`). The defaults are the seed's tables.

    Attributes:
        frames: sentences and frames a story, T.
        sentence_size: width of a sentence vector after PCA.
        noise_size: width Z of the noise that joins each sentence.
        context_size: width of the story encoder's `h0`, the GRU and Text2Gist.
        filter_count: filters that the filter network makes of one sentence.
        filter_length: length of each of them.
        generator_width: channels of the image generator's first block; each later block has half as many.
        discriminator_width: channels of a discriminator's first convolution; each later one has twice as many.
        spectral_norm: whether the discriminators' convolutions are spectrally normalised; not in the paper.
        gist: what Text2Gist makes of state and sentence: `filter` (the paper's dynamic convolution) or, for comparison,
            their `product`, number by number.
        story_noise: whether `h0` is drawn, as in the paper, or for comparison its mean.
        labels: labels a frame that the image discriminator also tells (an auxiliary classifier); 0 for none, as in the
            paper.
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
            f"at least the stride {self.filter_stride} and of the same parity",
        )

    @property
    def filter_stride(self) -> int:
        """Stride that turns `filter_count` filters into a gist of `context_size` numbers."""
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
"""Fields of a phase that are finite and at least 0."""


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """One phase of a training: its length, schedule, losses and learning rates.

    Attributes:
        name: how logs and overrides (`training.phases.NAME.epochs=3`) call it.
        epochs: its length; an epoch is `TrainConfig.steps_per_epoch` outer steps. 0 leaves the phase out.
        schedule: `algorithm1` (image updates, then story updates: the paper's Algorithm 1), `joint` (one update of both
            discriminators, then `generator_steps` updates of the generator on all terms together: the released code's
            schedule) or `pixel` (the generator alone, by pixel losses and KL).
        image_batch: stories a mini-batch of an image update, of which one frame each is drawn.
        story_batch: stories a mini-batch of a story update, or of a step of the `pixel` schedule.
        image_steps: image updates an outer step of `algorithm1`.
        story_steps: story updates an outer step of `algorithm1` or `pixel`.
        generator_steps: generator updates an outer step of `joint`.
        generator_learning_rate: Adam's, for the generator.
        discriminator_learning_rate: Adam's, for both discriminators.
        beta_1: Adam's first decay rate.
        beta_2: Adam's second decay rate.
        decay: `constant`; `linear`: the learning rates fall to 0 over the second half of the phase; `halving`: they are
            halved every 20 epochs, as in the released code.
        image_weight: alpha, the weight of the image discriminator's term in the generator's loss.
        story_weight: beta, the weight of the story discriminator's term.
        kl_weight: weight of the KL divergence of `h0` from N(0, I).
        generator_loss: `non_saturating` or `minimax` (Goodfellow et al., arXiv:1406.2661, section 3).
        l1_weight: weight of the mean absolute pixel error against the true frames; 0 in the paper.
        l2_weight: weight of the mean squared pixel error; 0 in the paper.
        object_weight: weight of a pixel that differs from the median background in these two, against 1 for others.
        mismatched: whether the image discriminator also sees true frames with another story's sentence, as fakes (Reed
            et al., arXiv:1605.05396): `real + (fake + mismatched) / 2`.
        label_weight: weight of the auxiliary label classifier in the image discriminator's loss, on true frames (Odena
            et al., arXiv:1610.09585); needs `model.labels`.
        generator_label_weight: weight of the same in the generator's loss.
        feature_matching_weight: weight of the mean absolute difference between the image discriminator's features of
            true and of drawn frames (Salimans et al., arXiv:1606.03498; per frame as in Wang et al., arXiv:1711.11585).
        average: decay of the moving average of the generator's weights and statistics, which is what is evaluated and
            exported; 0 for the weights as they are.
    """

    name: str = "adversarial"
    epochs: int = 1
    schedule: Literal["algorithm1", "joint", "pixel"] = "algorithm1"
    image_batch: int = 24
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
        where = f"training.phases.{self.name}"
        require(bool(self.name) and not self.name.isdigit(), "training.phases: name", self.name, "a word")
        for field, least in (("epochs", 0), ("image_batch", 1), ("story_batch", 1)):
            value = getattr(self, field)
            require(value >= least, f"{where}.{field}", value, f"at least {least}")
        for field in _NOT_NEGATIVE:
            value = getattr(self, field)
            require(value >= 0 and math.isfinite(value), f"{where}.{field}", value, "a finite number, at least 0")
        for field in ("beta_1", "beta_2", "average"):
            require(0 <= getattr(self, field) < 1, f"{where}.{field}", getattr(self, field), "0 or more, less than 1")
        require(self.image_steps + self.story_steps > 0, f"{where}.story_steps", 0, "an update of either kind")
        require(self.generator_steps >= 1, f"{where}.generator_steps", self.generator_steps, "at least 1")
        require(
            self.image_batch > 1 or not self.mismatched, f"{where}.image_batch", 1, "2 or more for mismatched pairs"
        )
        if self.schedule == "pixel":
            require(
                self.l1_weight + self.l2_weight > 0, f"{where}.l1_weight", 0.0, "a pixel loss in a `pixel` schedule"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a StoryGAN is trained.

    Attributes:
        seed: of initial weights, data order and noise.
        steps_per_epoch: outer steps an epoch; 0 for one pass over the training stories.
        phases: one after the other.
        strategy: `auto` (all GPUs, else one device), `one-device`, `mirrored`, `multi-worker` (`TF_CONFIG` names the
            workers) or `tpu`.
        xla: whether steps are compiled by XLA.
        mixed_precision: whether layers compute in 16 bits (bfloat16 on TPU, float16 with loss scaling on GPU) and keep
            float32 weights.
        storyboard_stories: test stories drawn after each epoch.
        init_from: model or run that weights, sentence encoder and PCA come from (`--init-from`); empty to start afresh.
        rollbacks: how often a training that diverged goes back to the last good checkpoint, with learning rates halved,
            before it gives up.
    """

    seed: int = 1
    steps_per_epoch: int = 0
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    strategy: Literal["auto", "one-device", "mirrored", "multi-worker", "tpu"] = "auto"
    xla: bool = False
    mixed_precision: bool = False
    storyboard_stories: int = 4
    init_from: str = ""
    rollbacks: int = 3

    def __post_init__(self) -> None:
        epochs = [phase.epochs for phase in self.phases]
        require(any(epochs), "training.phases: epochs", epochs, "at least one phase, of one epoch or more")
        names = [phase.name for phase in self.phases]
        require(len(set(names)) == len(names), "training.phases", names, "phases of different names")
        require(0 <= self.seed < 2**32, "training.seed", self.seed, "a whole number from 0 to 2^32 - 1")
        require(self.steps_per_epoch >= 0, "training.steps_per_epoch", self.steps_per_epoch, "0 or more")
        require(self.rollbacks >= 0, "training.rollbacks", self.rollbacks, "0 or more")

    @property
    def active_phases(self) -> tuple[PhaseConfig, ...]:
        """Those that are not left out."""
        return tuple(phase for phase in self.phases if phase.epochs)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How stories become records.

    Attributes:
        encoder: sentence encoder: a hub handle, a path of a SavedModel, or `embedded`.
        format: layout of the data folder: `auto`, `story-folder`, `clevr-sv`, `pororo-sv`, `flintstones-sv` or
            `parquet`.
        max_reject_fraction: a run fails when more than this fraction of stories had to be set aside.
        test_fraction: fraction of stories that become test stories where the data names no split.
        max_sentence_length: characters a sentence may have.
        frame_seed: of the frame that is drawn from each strip of Pororo-SV and each clip of FlintstonesSV.
        pororo_split: which split of Pororo-SV: `seen-unseen`, the field's, or the older `train-test`.
        drop_leaks: whether FlintstonesSV's stories for validation and testing are left out where they hold clips for
            training.
    """

    encoder: str = USE_V4
    format: Literal["auto", "story-folder", "clevr-sv", "pororo-sv", "flintstones-sv", "parquet"] = "auto"
    max_reject_fraction: float = 0.01
    test_fraction: float = 0.1
    max_sentence_length: int = 1000
    frame_seed: int = 0
    pororo_split: Literal["seen-unseen", "train-test"] = "seen-unseen"
    drop_leaks: bool = False

    def __post_init__(self) -> None:
        require(bool(self.encoder), "data.encoder", self.encoder, "a handle, a path or 'embedded'")
        for field in ("max_reject_fraction", "test_fraction"):
            value = getattr(self, field)
            require(0 <= value <= 1, f"data.{field}", value, "a fraction from 0 to 1")
        require(self.max_sentence_length >= 1, "data.max_sentence_length", self.max_sentence_length, "at least 1")
        require(0 <= self.frame_seed < 2**32, "data.frame_seed", self.frame_seed, "a whole number from 0 to 2^32 - 1")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a model is judged, and what it must reach to be pushed.

    A threshold of null asks nothing. Those on labels and placed objects apply where there is a judge that is trusted.

    Attributes:
        seed: of the generator's noise, the random other stories, the bootstrap and a judge's training.
        judge: `auto` (the frozen one for `blocks`, else trained on the training stories), `train`, or the path of a
            saved judge.
        classifier_epochs: passes over the training frames where a judge is trained.
        classifier_stories: training stories that a judge is trained on at the most, evenly chosen.
        fid_network: JSON of the network for `fid` (`docs/networks.md`); empty for none, and then no such figure.
        fsd_network: the same for `fsd`.
        label_network: the same for `character_f1` and `character_accuracy`.
        replicates: of the bootstrap behind each interval; those of Frechet distances come from a jackknife.
        min_ssim_over_random: SSIM must exceed that of a random training story by more than this.
        min_f1_over_floor: label F1 must exceed that of the median background by more than this.
        min_f1_over_random: label F1 must exceed that of a random training story by more than this.
        min_placed_over_random: placed-object accuracy must exceed that of a random training story by more than this.
        min_object_gain: object error must be below that of the median background by more than this fraction of it;
            applies where no threshold on labels or placed objects does.
        max_ssim_drop: SSIM must not be surely lower than the served model's by more than this. Surely: the whole 95%
            interval of the difference is.
        max_f1_drop: the same of label F1.
        max_placed_drop: the same of placed-object accuracy.
        max_object_error_rise: object error must not be surely higher by more than so many grey levels.
        max_fid_rise: `fid_domain` must not be surely higher by more than this.
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
    """What a run does with a model that passed the gate, beside pushing it.

    Attributes:
        bulk_infer: split whose stories TFX's BulkInferrer draws (`docs/batch.md`); empty for none, and no such step.
    """

    bulk_infer: Literal["", "train", "val", "test"] = ""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a run is made of."""

    preset: str = "paper"
    model: StoryGANConfig = StoryGANConfig()
    training: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()

    def to_json(self, *parts: str) -> str:
        """Returns the settings, or just the named parts of them, as one line of JSON with sorted keys.

        Args:
            *parts: sections (`training`) or single fields (`model.frames`); none for everything. A step of the pipeline
                that is given no more than it uses is not run again when something else changes.
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
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: for text that is not a JSON object, an unknown key or a value of the wrong type.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"settings: not JSON ({error}); found {text[:80]!r}.") from error
        return from_dict(cls, values)

    def override(self, assignments: Sequence[str]) -> Settings:
        """Returns settings with each ``key=value`` applied, keys with dots (`training.phases.warm_up.epochs=3`).

        Raises:
            ConfigError: for an unknown key, a value of the wrong type or an assignment without ``=``.
        """
        return override(self, assignments)

    def with_training(self, text: str) -> Settings:
        """Returns settings with what a cluster was told at submission about the training.

        Args:
            text: a JSON object of settings below `training` and their values, keys with dots
                (`{"seed": 3, "phases.warm_up.epochs": 2}`); empty for none.

        Raises:
            ConfigError: for text that is no such object, an unknown key or a value of the wrong type.
        """
        try:
            values = json.loads(text or "{}")
        except json.JSONDecodeError as error:
            raise ConfigError(f"training: not JSON ({error}); found {text[:80]!r}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f'training: found {text[:80]!r}, expected a JSON object, such as {{"seed": 3}}.')
        return self.override([f"training.{key}={json.dumps(value)}" for key, value in values.items()])

    def changes(self, other: Settings) -> list[str]:
        """Returns the assignments that turn other settings into these; the preset's name is not among them."""
        before, after = (json.loads(settings.to_json()) for settings in (other, self))
        return [change for change in _changes(before, after) if not change.startswith("preset=")]


def override(config: Dataclass, assignments: Sequence[str]) -> Dataclass:
    """Returns a configuration with each ``key=value`` applied; see `Settings.override`."""
    values = json.loads(json.dumps(dataclasses.asdict(typing.cast(Any, config))))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r}: expected key=value, such as training.seed=3.")
        _assign(values, key.strip(), _value_of(text))
    return from_dict(type(config), values)


def _changes(before: Any, after: Any, key: str = "") -> Iterator[str]:
    prefix = f"{key}." if key else ""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in after:
            yield from _changes(before.get(name), after[name], prefix + name)
    elif _named(before) and _named(before) == _named(after):
        for name, old, new in zip(_named(after), before, after, strict=True):
            yield from _changes(old, new, prefix + name)
    elif before != after:
        yield f"{key}={json.dumps(after)}"


def _named(values: Any) -> list[str]:
    """Returns the names of a list's members, where it is a list of mappings with names."""
    return [entry["name"] for entry in values if isinstance(entry, dict)] if isinstance(values, list) else []


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(values: Any, key: str, value: Any) -> None:
    """Sets the entry `key` of nested mappings and lists: names joined by dots."""
    *path, last = key.split(".")
    for part in path:
        values = values[_find(values, part, key)]
    values[_find(values, last, key)] = value


def _find(values: Any, part: str, key: str) -> Any:
    """Returns by what `values` is subscripted to reach `part`: a name, or a list member's number or its `name`."""
    known: dict[str, Any] = {}
    if isinstance(values, dict):
        known = {name: name for name in values}
    elif isinstance(values, list):
        known = {str(index): index for index in range(len(values))}
        known |= {entry["name"]: index for index, entry in enumerate(values) if isinstance(entry, dict)}
    if part in known:
        return known[part]
    names = [name for name in known if not name.isdigit()]
    expected = f"expected one of {', '.join(names)}" if names else "it has no parts"
    raise ConfigError(f"--set {key}: unknown key {part!r}{nearest(part, names)} ({expected}).")


def from_dict(cls: type[Dataclass], values: Any, where: str = "") -> Dataclass:
    """Builds a configuration dataclass from nested mappings, strictly.

    Args:
        cls: the dataclass.
        values: a mapping of its field names; absent fields keep their defaults.
        where: the name by which errors call `values`.

    Raises:
        ConfigError: for an unknown key or a value of the wrong type, naming it.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'settings'}: found {values!r}, expected a mapping of names to values.")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            name = f"{where}.{key}" if where else str(key)
            raise ConfigError(f"unknown key {name!r}{nearest(str(key), hints)} (expected one of {', '.join(hints)}).")
    prefix = f"{where}." if where else ""
    return cls(**{key: _convert(hints[key], value, prefix + key) for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(Any, hint), value, where)
    converter = _CONVERTERS.get(typing.get_origin(hint) or hint)
    if converter is None:
        raise TypeError(f"{where}: configuration fields of type {hint} are not supported.")
    return converter(hint, value, where)


def _wrong_type(where: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{where}: found {value!r}, expected {expected}.")


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong_type(where, value, names[hint])
    return value


def _convert_literal(hint: Any, value: Any, where: str) -> Any:
    choices = typing.get_args(hint)
    if value not in choices:
        raise _wrong_type(where, value, f"one of {', '.join(map(str, choices))}{nearest(str(value), choices)}")
    return value


def _convert_tuple(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong_type(where, value, "a list")
    return tuple(_convert(typing.get_args(hint)[0], entry, f"{where}.{index}") for index, entry in enumerate(value))


def _convert_optional(hint: Any, value: Any, where: str) -> Any:
    if value is None:
        return None
    return _convert(typing.get_args(hint)[0], value, where)


_CONVERTERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    int: _convert_plain,
    float: _convert_plain,
    str: _convert_plain,
    bool: _convert_plain,
    Literal: _convert_literal,
    tuple: _convert_tuple,
    Union: _convert_optional,
    types.UnionType: _convert_optional,
}
