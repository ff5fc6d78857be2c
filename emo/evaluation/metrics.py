"""Metrics of predictions, their uncertainty, and paired comparison. Pure numpy, no randomness that
is not seeded.

WA (weighted accuracy) is the plain accuracy; UA (unweighted accuracy) the mean of the classes'
recalls, over the classes that occur. All values are fractions, not per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
HEADLINES = ("wa", "ua", "weighted_f1")


def evaluate(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """Every metric of `probabilities` [N, C] against the hard `labels` [N] in 0 ... C-1.

    Returns a JSON-able dict: `n`, `labels` (the class names), `wa`, `ua`, `weighted_f1`, `ece`,
    `classes` (name -> precision, recall, f1, support), `confusion` (row: truth, column: predicted).
    Where a class is never predicted or never occurs, a 0/0 counts as 0.

    Raises:
        ValueError: nothing to evaluate, shapes that do not fit, a label out of range, a NaN.
    """
    rows, table_NC = _checked(labels, probabilities, len(classes))
    table = confusion(rows, table_NC.argmax(axis=1), len(classes))
    scores = _scores(table)
    return {
        "n": len(rows),
        "labels": list(classes),
        **{name: float(scores[name]) for name in HEADLINES},
        "ece": expected_calibration_error(rows, table_NC),
        "classes": {
            name: {
                "precision": float(scores["precision"][index]),
                "recall": float(scores["recall"][index]),
                "f1": float(scores["f1"][index]),
                "support": int(scores["support"][index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": table.tolist(),
    }


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: row the truth, column the prediction."""
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def bootstrap(
    labels: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    groups: ArrayLike | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of WA, UA and weighted F1.

    Rows are drawn with replacement or, if `groups` [N] names each row's (its dialogue, say), whole
    groups are. All three metrics depend on the confusion matrix alone, so a resample is one
    multinomial draw over its cells (or over the groups, whose matrices are summed).
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
    scores = _scores(drawn.reshape(resamples, classes, classes))
    tail = (1 - level) / 2
    low, high = (
        {name: float(np.quantile(scores[name], place)) for name in HEADLINES}
        for place in (tail, 1 - tail)
    )
    return {name: (low[name], high[name]) for name in HEADLINES}


def paired_difference(
    labels: ArrayLike, a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None
) -> dict[str, Any]:
    """Accuracy of predictions `a` [N] minus that of `b` [N] on the same rows.

    Returns `difference`, `se` (its standard error, from the rows' paired differences, or from their
    sums over `groups` if rows of a group are not independent) and `interval` (95 %, normal).
    """
    truth, first, second = (np.asarray(x, np.int64) for x in (labels, a, b))
    if not len(truth) == len(first) == len(second) or not len(truth):
        raise ValueError(f"need equally many rows: {len(truth)}, {len(first)}, {len(second)}")
    delta = (first == truth).astype(float) - (second == truth)
    difference = float(delta.mean())
    residual = delta - difference
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


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy over equally wide bins of confidence (Guo 2017)."""
    table = np.asarray(probabilities, float)
    confidence = table.max(axis=1)
    right = table.argmax(axis=1) == np.asarray(labels)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Divergence [N] of distributions `p` and `q` [N, C], in bits: 0 where equal, at most 1.

    Rows without any mass (no annotator's vote lies in the label set) give NaN: leave them out.
    """
    pair = [np.asarray(x, float) for x in (p, q)]
    with np.errstate(divide="ignore", invalid="ignore"):
        pair = [x / x.sum(axis=1, keepdims=True) for x in pair]
        middle = (pair[0] + pair[1]) / 2
        terms = [np.where(x == 0, 0.0, x * np.log2(x / middle)).sum(axis=1) for x in pair]
    return np.asarray((terms[0] + terms[1]) / 2)


def _scores(table: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Metrics of confusion matrices [..., C, C]."""
    table = np.asarray(table, float)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    support, guessed = table.sum(axis=-1), table.sum(axis=-2)
    total = support.sum(axis=-1)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + guessed)
    return {
        "wa": hits.sum(axis=-1) / total,
        "ua": recall.sum(axis=-1) / (support > 0).sum(axis=-1),
        "weighted_f1": (f1 * support).sum(axis=-1) / total,
        "precision": _ratio(hits, guessed),
        "recall": recall,
        "f1": f1,
        "support": support,
    }


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _checked(
    labels: ArrayLike, probabilities: ArrayLike, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows, table = np.asarray(labels, np.int64), np.asarray(probabilities, float)
    if not len(rows):
        raise ValueError("nothing to evaluate")
    if table.shape != (len(rows), classes):
        raise ValueError(f"probabilities are {table.shape}, wanted {(len(rows), classes)}")
    if rows.min() < 0 or rows.max() >= classes:
        raise ValueError(f"labels must lie in 0 ... {classes - 1}")
    if not np.isfinite(table).all():
        raise ValueError("some probabilities are not finite")
    return rows, table
