"""Evaluations written by hand, for tests of reports."""

from __future__ import annotations

import pytest

from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.result import BoardStories, Check, Confusion, Evaluation, Judge, MetricValue, Row

LABELS = ("cube", "sphere", "cylinder", "gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")


def row(name: str, description: str, **values: tuple[float, float, float] | float) -> Row:
    """Returns a row of metrics: (value, low, high), or a value alone."""
    drawn_from = "text" if name in (metric_names.MODEL, metric_names.SERVED) else "-"
    found = {
        key: MetricValue(*value) if isinstance(value, tuple) else MetricValue(value) for key, value in values.items()
    }
    return Row(name, description, drawn_from, found)


ROWS = (
    row(
        metric_names.MODEL,
        "the model",
        ssim=(0.8123, 0.8011, 0.8234),
        object_error=(31.42, 30.1, 32.8),
        sharpness=(0.31, 0.28, 0.35),
        diversity=(2.14, 2.0, 2.3),
        label_f1=(0.512, 0.471, 0.551),
        frame_accuracy=(0.083, 0.05, 0.12),
        consistency=(0.61, 0.55, 0.66),
        placed_accuracy=(0.137, 0.101, 0.178),
        fid_domain=(141.9, 130.2, 155.0),
        fsd_domain=210.4,
    ),
    row(
        metric_names.SERVED,
        "the served model, judged again, version 17",
        ssim=(0.7996, 0.789, 0.811),
        object_error=(35.0, 33.3, 36.6),
        sharpness=(0.28, 0.25, 0.31),
        diversity=(1.91, 1.8, 2.1),
        label_f1=(0.421, 0.38, 0.46),
        frame_accuracy=(0.05, 0.02, 0.08),
        consistency=(0.5, 0.44, 0.57),
        placed_accuracy=(0.091, 0.06, 0.13),
        fid_domain=(180.3, 166.0, 198.1),
        fsd_domain=255.0,
    ),
    row(
        metric_names.REAL,
        "the true test frames (ceiling)",
        ssim=1.0,
        object_error=0.0,
        sharpness=1.0,
        label_f1=(0.971, 0.96, 0.98),
        frame_accuracy=(0.82, 0.78, 0.86),
        consistency=(0.98, 0.97, 0.99),
        placed_accuracy=(0.94, 0.92, 0.96),
        fid_domain=0.0,
        fsd_domain=0.0,
    ),
    row(
        metric_names.RANDOM_STORY,
        "the true frames of a random training story",
        ssim=(0.7801, 0.77, 0.79),
        object_error=(52.3, 50.9, 54.0),
        sharpness=(0.71, 0.66, 0.77),
        label_f1=(0.466, 0.43, 0.5),
        frame_accuracy=(0.02, 0.0, 0.04),
        consistency=(0.45, 0.39, 0.51),
        placed_accuracy=(0.021, 0.01, 0.04),
        fid_domain=(9.3, 8.0, 11.2),
        fsd_domain=13.0,
    ),
    row(
        metric_names.BACKGROUND,
        "the median background of the training frames (floor)",
        ssim=(0.861, 0.853, 0.869),
        object_error=(48.2, 47.1, 49.5),
        sharpness=(0.12, 0.11, 0.13),
        label_f1=(0.03, 0.01, 0.05),
        frame_accuracy=0.0,
        consistency=(0.02, 0.01, 0.04),
        placed_accuracy=(0.004, 0.0, 0.01),
        fid_domain=(702.0, 690.0, 715.0),
        fsd_domain=913.0,
    ),
)

CHECKS = (
    Check("min_ssim_over_random", 0.0322, 0.02, True, "SSIM 0.812 exceeds 0.780 of a random training story."),
    Check("min_f1_over_random", 0.046, 0.1, False, "Label F1 0.512 against 0.466 of a random training story."),
    Check("min_object_gain", None, 0.0, None, "Object error: thresholds on labels apply instead."),
)

COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")


def matrix(size: int, right: int, wrong: int) -> tuple[tuple[int, ...], ...]:
    """Returns counts: `right` on the diagonal, up to `wrong` elsewhere."""
    return tuple(
        tuple(right + i if i == j else (3 * i + 5 * j) % (wrong + 1) for j in range(size)) for i in range(size)
    )


RICH = Evaluation(
    rows=ROWS,
    absent={
        "fid": "no network was given (evaluation.fid_network)",
        "fsd": "no network was given (evaluation.fsd_network)",
        "character_f1": "no network was given (evaluation.label_network)",
        "character_accuracy": "no network was given (evaluation.label_network)",
    },
    checks=CHECKS[:1] + CHECKS[2:],
    judges=(
        Judge(
            metric_names.LABELS,
            "the frozen judge of blocks that ships with storygan",
            "f00d" * 16,
            {"label_f1": 0.985, "placed_accuracy": 0.951},
        ),
    ),
    label_names=LABELS,
    label_f1={
        label: {
            metric_names.MODEL: 0.9 - 0.07 * n,
            metric_names.SERVED: 0.8 - 0.07 * n,
            metric_names.REAL: 0.99 - 0.004 * n,
        }
        for n, label in enumerate(LABELS)
    },
    confusions={
        "colour": Confusion(COLOURS, {metric_names.MODEL: matrix(8, 21, 9), metric_names.REAL: matrix(8, 90, 1)}),
        "shape": Confusion(SHAPES, {metric_names.MODEL: matrix(3, 50, 40), metric_names.REAL: matrix(3, 140, 2)}),
    },
    boards=BoardStories("label_f1", ("s000041", "s000017"), ("s000003", "s000029"), ("s000012", "s000044")),
    story_values={
        "s000041": 0.911,
        "s000017": 0.874,
        "s000003": 0.111,
        "s000029": 0.125,
        "s000012": 0.5,
        "s000044": 0.4,
    },
    stories=48,
    frames=4,
    seed=1,
    data="da7a" * 16,
)

BARE = Evaluation(
    rows=tuple(
        Row(
            entry.name,
            entry.description,
            entry.drawn_from,
            {name: entry.metrics[name] for name in ("ssim", "object_error")},
        )
        for entry in ROWS
        if entry.name != metric_names.SERVED
    ),
    absent={"label_f1": "the data has no labels", "placed_accuracy": "the data does not tell where objects are"},
    checks=(Check("min_f1_over_random", None, 0.0, None, "Label F1: absent."),),
    judges=(),
    label_names=(),
    label_f1={},
    confusions={},
    boards=BoardStories("ssim", ("a",), ("b",), ()),
    story_values={"a": 0.91, "b": 0.42},
    stories=2,
    frames=4,
    seed=1,
    data="ba5e" * 16,
)


@pytest.fixture(scope="session")
def rich_evaluation() -> Evaluation:
    """Returns the evaluation of a blessed model with a served model, labels, objects and a trusted judge."""
    return RICH


@pytest.fixture(scope="session")
def bare_evaluation() -> Evaluation:
    """Returns the evaluation of a model on stories without labels and objects, to which no threshold applies."""
    return BARE


@pytest.fixture(scope="session")
def failed_check() -> Check:
    """Returns a failed check of a threshold."""
    return CHECKS[1]
