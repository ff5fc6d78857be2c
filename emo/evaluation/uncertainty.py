"""The uncertainty of metrics: bootstrap intervals, and paired differences between two models.

Pure numpy; all random numbers are seeded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emo.metrics import OF_CONFUSION, confusion

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 10_000
TAIL = (1 - 0.95) / 2  # not the literal 0.025, whose last bit differs: stored intervals stay equal


def bootstrap(
    labels: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals (low, high) of every metric of the confusion matrix.

    Rows are drawn with replacement, or whole groups if `groups` [N] names the group of each row
    (its dialogue, for instance). These metrics depend on the confusion matrix alone, so a resample
    is one multinomial draw over its cells, or over the groups, whose matrices are then summed.
    """
    truth, guess = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    if not len(truth):
        raise ValueError("nothing to resample")
    rng = np.random.default_rng(seed)
    drawn: NDArray[Any]
    if groups is None:
        cells = confusion(truth, guess, classes).ravel()
        drawn = rng.multinomial(len(truth), cells / len(truth), size=resamples)
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        count = int(group.max()) + 1
        per_group = np.zeros((count, classes * classes))
        np.add.at(per_group, (group, truth * classes + guess), 1)
        times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        drawn = times @ per_group
    tables = drawn.reshape(resamples, classes, classes).astype(float)
    result = {}
    for name, formula in OF_CONFUSION.items():
        scores = formula(tables)
        result[name] = (float(np.quantile(scores, TAIL)), float(np.quantile(scores, 1 - TAIL)))
    return result


def paired_difference(
    labels: ArrayLike, a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None
) -> dict[str, Any]:
    """Accuracy of predictions `a` [N] minus that of `b` [N] on the same rows.

    Returns `difference`, `se` (its standard error) and `interval` (95 %, normal approximation). The
    error comes from the rows' paired differences, or, where rows of a group are not independent,
    from the differences' sums over `groups`.
    """
    truth, first, second = (np.asarray(x, np.int64) for x in (labels, a, b))
    if not len(truth) == len(first) == len(second) or not len(truth):
        raise ValueError(f"need equally many rows: {len(truth)}, {len(first)}, {len(second)}")
    delta = (first == truth).astype(float) - (second == truth)
    difference = float(delta.mean())
    residual = delta - difference
    # The variance of a sum over independent units; a unit is a row or a group. u / (u - 1) corrects
    # for the mean that was estimated from the same data.
    if groups is not None:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        residual = np.bincount(group, weights=residual)
    units = len(residual)
    spread = units / (units - 1) * np.sum(residual**2) if units > 1 else np.inf
    se = float(np.sqrt(spread) / len(truth))
    return {
        "difference": difference,
        "se": se,
        "interval": (difference - Z_95 * se, difference + Z_95 * se),
    }
