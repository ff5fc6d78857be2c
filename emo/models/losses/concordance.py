"""Concordance correlation as a loss, over all turns of a global batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1e-12  # a denominator below is that of two constants which are equal


def concordance_loss(x_GA: Tensor, y_GA: Tensor, factors: Sequence[float]) -> Tensor:
    """The sum of factor · (1 - CCC) over attributes, 0 for one that fewer than two turns have.

    CCC = 2·cov / (var x + var y + (mean x - mean y)²), with population moments (Lin 1989). Where a
    batch's targets are all the same, there is no correlation, and the gradient still moves the
    predictions to their mean: 0 / (var x + (mean x - mean y)²) is 0, and its gradient too, so such
    an attribute adds 1 and no gradient. Computed in the dtype of `x_GA`, which should be float64.

    Args:
        x_GA: predictions.
        y_GA: targets; NaN where a turn lacks the attribute.
    """
    total = x_GA.sum() * 0.0
    for factor, x_G, y_G in zip(factors, x_GA.T, y_GA.to(x_GA.dtype).T, strict=True):
        there_G = ~torch.isnan(y_G)
        if int(there_G.sum()) >= 2:
            total = total + factor * (1.0 - concordance(x_G[there_G], y_G[there_G]))
    return total


def concordance(x_N: Tensor, y_N: Tensor) -> Tensor:
    """The concordance correlation of two vectors, a scalar; 0 where both are constant."""
    mean_x, mean_y = x_N.mean(), y_N.mean()
    # Of centred values: the difference of large sums of squares would lose the digits.
    x_N, y_N = x_N - mean_x, y_N - mean_y
    apart = x_N.square().mean() + y_N.square().mean() + (mean_x - mean_y).square()
    return 2.0 * (x_N * y_N).mean() / apart.clamp(min=LEAST)
