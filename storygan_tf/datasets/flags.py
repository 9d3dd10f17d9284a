"""Labels that are told by flags."""

from __future__ import annotations

from typing import Any

import numpy as np

from storygan_tf.datasets.reader import require


def shown(flags: Any, names: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Returns the names whose flags are 1.

    Args:
        flags: as many zeros and ones as there are names; None where they are missing.
        names: the labels.
        file: where the flags stand.

    Raises:
        BadValueError: for anything else.
    """
    require(flags is not None, "no labels", file)
    try:
        values = np.asarray(flags).ravel()
    except ValueError:
        values = np.array(None)
    plain = values.dtype.kind in "biuf" and len(values) == len(names) and bool(np.isin(values, (0, 1)).all())
    require(plain, f"labels are not {len(names)} flags of 0 or 1", file)
    return tuple(name for name, flag in zip(names, values, strict=True) if flag)
