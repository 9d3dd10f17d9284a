"""The Frechet distance between two sets of feature vectors, each taken as a Gaussian.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017: with features
of frames from the Inception network it is FID, with one vector a story FSD. Everything follows from moments that add
up, so that a long data set is counted a batch at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of feature vectors; those of two sets add up to those of both.

    The scatter is about the set's own mean: from sums of squares alone, a covariance that is small beside the mean
    would be lost (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm", 1979).

    Attributes:
        count: vectors.
        mean: float64 `[D]`; zeros where there is no vector.
        scatter: float64 `[D, D]`, symmetric, the sum of `(x - mean)(x - mean)^T`.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Returns the moments of some vectors.

        Args:
            features: `[n, D]`, float; n may be 0.

        Raises:
            ValueError: where the shape is another, or a number is not finite.
        """
        if features.ndim != 2:
            raise ValueError(f"features: found shape {features.shape}, expected [vectors, size].")
        if not np.isfinite(features).all():
            raise ValueError("features: found a number that is not finite, expected finite numbers only.")
        if not len(features):
            return cls.zero(features.shape[1])
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features - mean
        return cls(len(features), mean, centred.T @ centred)

    @classmethod
    def zero(cls, size: int) -> Moments:
        """Returns the moments of no vector of that size: what sums start from."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    def __add__(self, other: Moments) -> Moments:
        return pooled((self, other), np.ones(2))

    @property
    def covariance(self) -> np.ndarray:
        """Float64 `[D, D]`, unbiased as `np.cov` has it; ValueError for fewer than 2 vectors."""
        if self.count < 2:
            raise ValueError(f"covariance: found {self.count} vectors, expected at least 2.")
        return self.scatter / (self.count - 1)


class FrechetReference:
    """What many sets are compared with: its covariance is decomposed once."""

    def __init__(self, moments: Moments) -> None:
        self._mean = moments.mean
        self._root, self._trace = _root_and_trace(moments)

    def distance(self, other: Moments) -> float:
        """Returns the distance of `other` to the reference, as of `frechet_distance`."""
        if other.mean.shape != self._mean.shape:
            raise ValueError(
                f"frechet_distance: found features of sizes {self._mean.size} and {other.mean.size}, expected one size."
            )
        root, trace = _root_and_trace(other)
        apart = float(((self._mean - other.mean) ** 2).sum())
        # With C1 = F1 F1^T and C2 = F2 F2^T the eigenvalues of C1 C2 are the squared singular values of F1^T F2. Taken
        # so, nothing is squared before its root is drawn, which would cost half of the digits.
        shared = float(np.linalg.svd(self._root.T @ root, compute_uv=False).sum())
        return max(apart + self._trace + trace - 2 * shared, 0.0)


def frechet_distance(first: Moments, second: Moments) -> float:
    """Returns `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`, at least 0 and 0 for equal moments.

    Covariances may be singular, as they are of fewer vectors than the vectors are long.

    Raises:
        ValueError: where the sizes differ, or for a set of fewer than 2 vectors.
    """
    return FrechetReference(first).distance(second)


def pooled(parts: Sequence[Moments], weights: np.ndarray) -> Moments:
    """Returns the moments of a set that holds the vectors of each part so many times.

    Args:
        parts: at least one, all of one size.
        weights: `[parts]`, whole numbers, 0 or more.

    Raises:
        ValueError: where the sizes differ.
    """
    sizes = {part.mean.size for part in parts}
    if len(sizes) != 1:
        raise ValueError(f"moments: found vectors of sizes {sorted(sizes)}, expected one size.")
    counts = weights * np.array([part.count for part in parts])
    count = int(counts.sum())
    means = np.stack([part.mean for part in parts])
    mean = counts @ means / max(count, 1)
    between = np.sqrt(counts)[:, np.newaxis] * (means - mean)
    scatter = between.T @ between
    for weight, part in zip(weights, parts, strict=True):
        scatter += weight * part.scatter
    return Moments(count, mean, scatter)


def story_vectors(features: np.ndarray) -> np.ndarray:
    """Returns one vector a story: what its frames show on average, and how much that changes from frame to frame.

    Args:
        features: `[stories, frames, D]`, one vector a frame.

    Returns:
        float64 `[stories, 2 D]`: the mean over frames, then the mean absolute change; zeros where there is one frame.
    """
    values = np.asarray(features, np.float64)
    changes = np.abs(np.diff(values, axis=1)).sum(axis=1) / max(values.shape[1] - 1, 1)
    return np.concatenate([values.mean(axis=1), changes], axis=-1)


def _root_and_trace(moments: Moments) -> tuple[np.ndarray, float]:
    """Returns F `[D, rank]` with `F F^T` = the covariance, and the covariance's trace.

    Directions without variance are left out: their eigenvalues are rounding errors of either sign.
    """
    values, vectors = np.linalg.eigh(moments.covariance)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept]), float(values[kept].sum())
