"""The figures and the rows of an evaluation: their names, and what is said of them."""

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
"""The rows of every report, in this order; `served_model` only where there is one."""

ROWS = {
    MODEL: "the model",
    SERVED: "the served model",
    REAL: "the true test frames (ceiling)",
    RANDOM_STORY: "the true frames of a random training story",
    BACKGROUND: "the median background of the training frames (floor)",
}

LABELS, PLACED, FID, FSD, CHARACTER = "labels", "placed", "fid", "fsd", "character"
"""What networks judge: the domain judge's labels (and features) and placed objects; the field's three networks."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a figure is.

    Attributes:
        title: as tables head it.
        better: which values are better; `one`: the nearer to 1.
        judge: which network tells it (`LABELS`, `PLACED`, `FID`, `FSD`, `CHARACTER`); empty for pixels alone.
        digits: after the point, in tables.
        what: in a sentence.
    """

    title: str
    better: Literal["higher", "lower", "one"]
    judge: str
    digits: int
    what: str


FIGURES = {
    "ssim": Kind("SSIM", "higher", "", 3, "structural similarity to the true frame, mean over frames, -1 to 1"),
    "object_error": Kind(
        "object error",
        "lower",
        "",
        1,
        "mean absolute error in grey levels where the true frame differs from the median background by more than 19",
    ),
    "sharpness": Kind(
        "sharpness",
        "one",
        "",
        2,
        "mean absolute Laplacian where the true frame differs from the median background, over that of the true frame",
    ),
    "diversity": Kind(
        "diversity", "higher", "", 2, "mean absolute difference in grey levels between two samples of a story"
    ),
    "label_f1": Kind("label F1", "higher", LABELS, 3, "micro F1 of the labels that the domain judge sees, 0 to 1"),
    "frame_accuracy": Kind(
        "frame accuracy", "higher", LABELS, 3, "fraction of frames in which the domain judge sees every label right"
    ),
    "consistency": Kind(
        "consistency", "higher", LABELS, 3, "fraction seen of the labels that a frame shares with an earlier one"
    ),
    "placed_accuracy": Kind(
        "placed objects",
        "higher",
        PLACED,
        3,
        "fraction of objects that are right in colour, shape and size at their true place",
    ),
    "fid_domain": Kind(
        "FID (domain)",
        "lower",
        LABELS,
        1,
        "Frechet distance of the domain judge's features to those of the true test frames",
    ),
    "fsd_domain": Kind("FSD (domain)", "lower", LABELS, 1, "the same over one vector a story"),
    "character_f1": Kind("character F1", "higher", CHARACTER, 3, "micro F1 by the given label network"),
    "character_accuracy": Kind(
        "character frame accuracy", "higher", CHARACTER, 3, "exact match of all labels by the given label network"
    ),
    "fid": Kind("FID", "lower", FID, 1, "Frechet inception distance by the given network"),
    "fsd": Kind("FSD", "lower", FSD, 1, "Frechet story distance by the given network"),
}
