"""Names and descriptions of the metrics and the rows of an evaluation."""

from __future__ import annotations

import dataclasses
from typing import Literal

MODEL, SERVED, REAL, RANDOM_STORY, BACKGROUND = (
    "model",
    "served_model",
    "real_frames",
    "random_story",
    "median_background",
)
"""Names of the rows of an evaluation, in order. `served_model` exists only if there is a served model."""

ROWS = {
    MODEL: "the model",
    SERVED: "the served model",
    REAL: "the true test frames (ceiling)",
    RANDOM_STORY: "the true frames of a random training story",
    BACKGROUND: "the median background of the training frames (floor)",
}
"""Descriptions of the rows for reports."""

LABELS, PLACED, FID, FSD, CHARACTER = "labels", "placed", "fid", "fsd", "character"
"""Roles of judges. The domain judge has two: `LABELS` (labels and features) and `PLACED` (objects at known places). The
user-supplied networks have the others."""


@dataclasses.dataclass(frozen=True)
class MetricKind:
    """Description of a metric.

    Attributes:
        title: heading in tables.
        better: which values are better: `higher`, `lower`, or `one` if values closer to 1 are.
        judge: role of the network that computes it (`LABELS`, `PLACED`, `FID`, `FSD` or `CHARACTER`); empty if it is
            computed from pixels alone.
        digits: number of decimals in tables.
        description: explanation for readers of a report.
    """

    title: str
    better: Literal["higher", "lower", "one"]
    judge: str
    digits: int
    description: str


METRICS = {
    "ssim": MetricKind("SSIM", "higher", "", 3, "structural similarity to the true frame, mean over frames, -1 to 1"),
    "object_error": MetricKind(
        "object error",
        "lower",
        "",
        1,
        "mean absolute error in grey levels where the true frame differs from the median background by more than 19",
    ),
    "sharpness": MetricKind(
        "sharpness",
        "one",
        "",
        2,
        "mean absolute Laplacian where the true frame differs from the median background, over that of the true frame",
    ),
    "diversity": MetricKind(
        "diversity", "higher", "", 2, "mean absolute difference in grey levels between two samples of a story"
    ),
    "label_f1": MetricKind(
        "label F1", "higher", LABELS, 3, "micro F1 of the labels that the domain judge detects, 0 to 1"
    ),
    "frame_accuracy": MetricKind(
        "frame accuracy",
        "higher",
        LABELS,
        3,
        "fraction of frames of which the domain judge detects exactly the true labels",
    ),
    "consistency": MetricKind(
        "consistency",
        "higher",
        LABELS,
        3,
        "fraction of the labels that recur from an earlier frame and are detected again",
    ),
    "placed_accuracy": MetricKind(
        "placed objects",
        "higher",
        PLACED,
        3,
        "fraction of objects with the right colour, shape and size at their true place",
    ),
    "fid_domain": MetricKind(
        "FID (domain)",
        "lower",
        LABELS,
        1,
        "Frechet distance between the domain judge's features of these frames and of the true test frames",
    ),
    "fsd_domain": MetricKind(
        "FSD (domain)",
        "lower",
        LABELS,
        1,
        "Frechet distance between the domain judge's features, with one vector per story",
    ),
    "character_f1": MetricKind(
        "character F1",
        "higher",
        CHARACTER,
        3,
        "micro F1 of the labels that the configured label network detects, 0 to 1",
    ),
    "character_accuracy": MetricKind(
        "character frame accuracy",
        "higher",
        CHARACTER,
        3,
        "fraction of frames of which the configured label network detects exactly the true labels",
    ),
    "fid": MetricKind("FID", "lower", FID, 1, "Frechet inception distance, computed with the configured network"),
    "fsd": MetricKind("FSD", "lower", FSD, 1, "Frechet story distance, computed with the configured network"),
}
"""Metrics by name, in the order of reports."""
