"""The Frechet distance between two sets of feature vectors, each modelled as a Gaussian.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017. With the
Inception network's features of frames the distance is FID; with one vector per story it is FSD. It is computed from
moments, which can be summed over batches, so that the features of a large data set need not be held in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Count, mean and scatter matrix of a set of feature vectors.

    `first + second` are the moments of the union of two sets. The scatter is taken about the set's own mean: computed
    from plain sums of squares, a covariance that is small compared with the mean would be lost to rounding (Chan, Golub
    and LeVeque, "Updating formulae and a pairwise algorithm", 1979).

    Attributes:
        count: number of vectors.
        mean: float64 `[D]`; zeros if there is no vector.
        scatter: float64 `[D, D]`, symmetric, the sum of `(x - mean)(x - mean)^T`.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def from_features(cls, features: np.ndarray) -> Moments:
        """Returns the moments of feature vectors.

        Args:
            features: float `[n, D]`; n may be 0.

        Raises:
            ValueError: if the array is not of rank 2 or a number is not finite.
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
        """Returns the moments of an empty set of vectors of length `size`, the neutral element of `+`."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    def __add__(self, other: Moments) -> Moments:
        """Returns the moments of the union of both sets."""
        return pooled((self, other), np.ones(2))

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, float64 `[D, D]`, as `np.cov` computes it.

        Raises:
            ValueError: if there are fewer than 2 vectors.
        """
        if self.count < 2:
            raise ValueError(f"covariance: found {self.count} vectors, expected at least 2.")
        return self.scatter / (self.count - 1)


class FrechetReference:
    """A set of vectors that several other sets are compared with; its covariance is decomposed only once.

    Args:
        moments: moments of the reference set, of at least 2 vectors.
    """

    def __init__(self, moments: Moments) -> None:
        self._mean = moments.mean
        self._root, self._trace = _root_and_trace(moments)

    def distance(self, other: Moments) -> float:
        """Returns the Frechet distance between `other` and the reference (see `frechet_distance`).

        Raises:
            ValueError: if the vectors have different lengths or `other` has fewer than 2 vectors.
        """
        if other.mean.shape != self._mean.shape:
            raise ValueError(
                f"frechet_distance: found features of sizes {self._mean.size} and {other.mean.size}, expected one size."
            )
        root, trace = _root_and_trace(other)
        between_means = float(((self._mean - other.mean) ** 2).sum())
        # With C1 = F1 F1^T and C2 = F2 F2^T the eigenvalues of C1 C2 are the squared singular values of F1^T F2. The
        # singular values are used because squaring first and taking the root afterwards would lose half of the digits.
        root_trace = float(np.linalg.svd(self._root.T @ root, compute_uv=False).sum())
        return max(between_means + self._trace + trace - 2 * root_trace, 0.0)


def frechet_distance(first: Moments, second: Moments) -> float:
    """Returns the Frechet distance `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`; at least 0, and 0 for equal moments.

    Covariances may be singular, as they are if there are fewer vectors than dimensions.

    Args:
        first: moments with mean m1 and covariance C1.
        second: moments with mean m2 and covariance C2.

    Raises:
        ValueError: if the vectors have different lengths or a set has fewer than 2 vectors.
    """
    return FrechetReference(first).distance(second)


def pooled(parts: Sequence[Moments], weights: np.ndarray) -> Moments:
    """Returns the moments of a set that contains the vectors of part i `weights[i]` times.

    Args:
        parts: moments of at least one set, all of vectors of one length.
        weights: whole numbers, 0 or more, `[parts]`.

    Raises:
        ValueError: if the vectors have different lengths.
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
    """Returns one vector per story: the mean of its frames' features and their mean absolute change between frames.

    Args:
        features: float `[stories, frames, D]`, one vector per frame.

    Returns:
        float64 `[stories, 2 D]`: the mean over frames, then the mean absolute change from frame to frame, which is 0
        for stories of one frame.
    """
    values = np.asarray(features, np.float64)
    changes = np.abs(np.diff(values, axis=1)).sum(axis=1) / max(values.shape[1] - 1, 1)
    return np.concatenate([values.mean(axis=1), changes], axis=-1)


def _root_and_trace(moments: Moments) -> tuple[np.ndarray, float]:
    """Returns F, float64 `[D, rank]`, with `F F^T` equal to the covariance, and the trace of the covariance.

    Eigenvectors without variance are left out, because their eigenvalues are rounding errors of either sign.
    """
    values, vectors = np.linalg.eigh(moments.covariance)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept]), float(values[kept].sum())
