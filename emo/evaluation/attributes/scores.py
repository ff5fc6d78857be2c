"""CCC, Pearson correlation and RMSE of attributes, with bootstrap intervals. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emo.evaluation.uncertainty import RESAMPLES, TAIL

CHUNK = 2**22  # numbers of resampled counts at a time: some 30 MB
SCORES = ("ccc", "pearson", "rmse")


def of_moments(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The scores from sums [..., 6] of 1, x, y, x², y² and xy over turns.

    CCC is Lin's (1989), with population moments; correlations of constants are 0.
    """
    count, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, float), -1, 0)
    mean_x, mean_y = x / count, y / count
    var_x, var_y = (np.maximum(s / count - m**2, 0) for s, m in ((xx, mean_x), (yy, mean_y)))
    cov = xy / count - mean_x * mean_y
    apart = var_x + var_y + (mean_x - mean_y) ** 2
    both = np.sqrt(var_x * var_y)
    return {
        "ccc": np.divide(2 * cov, apart, out=np.zeros_like(cov), where=apart > 1e-12),
        "pearson": np.divide(cov, both, out=np.zeros_like(cov), where=both > 1e-12),
        "rmse": np.sqrt(np.maximum((xx - 2 * xy + yy) / count, 0)),
    }


def scores(
    predicted: np.ndarray, true: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The scores of one attribute, `n` (turns that have it) and their 95 % intervals.

    Args:
        predicted, true: float64 [N], on the corpus' scale; NaN in `true` where a turn lacks it.

    Intervals are percentiles over turns drawn with replacement; without `resamples` there are none.
    """
    there = ~np.isnan(true)
    x, y = predicted[there], true[there]
    result: dict[str, Any] = {"n": len(x)}
    if len(x) < 2:
        return result | dict.fromkeys(SCORES) | {"interval_95": {}}
    # Shifted to the mean of y first: sums of squares of large numbers would lose the digits.
    x, y = x - y.mean(), y - y.mean()
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    result |= {name: float(value) for name, value in of_moments(moments.sum(axis=0)).items()}
    if not resamples:
        return result
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    at_once = max(1, CHUNK // len(x))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        times = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=size)
        for name, values in of_moments(times @ moments).items():
            drawn[name].append(values)
    result["interval_95"] = {
        name: [float(np.quantile(np.concatenate(values), one)) for one in (TAIL, 1 - TAIL)]
        for name, values in drawn.items()
    }
    return result


def mean_ccc(attributes: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The mean CCC of the attributes that have one, as in challenges; None if none has."""
    found = [one["ccc"] for one in attributes.values() if one.get("ccc") is not None]
    return float(np.mean(found)) if found else None


def in_words(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """The CCC of each attribute, on one line: "CCC arousal 0.61 valence 0.58"."""
    named = (
        f"{name} {one['ccc']:.3f}" for name, one in attributes.items() if one["ccc"] is not None
    )
    return "CCC " + " ".join(named)
