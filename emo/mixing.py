"""Pairs of rows that are mixed with each other: what a batch says of them, and the arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

# Keys of a batch's inputs: int64 [B], the place of each row's partner; float32 [B], the share of
# the row itself.
PARTNER, WEIGHT = "mix_partner", "mix_weight"


def mix(x: Tensor, weight_B: Tensor, partner_B: Tensor) -> Tensor:
    """`weight` times each row of `x` [B, ...] plus the rest times its partner's row.

    A row of weight 1 stays as it is to the last bit, even where its partner is NaN.
    """
    weight = weight_B.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return torch.where(weight < 1, weight * x + (1 - weight) * x[partner_B], x)
