"""Sums that half precision cannot hold, taken in float32."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is in half precision."""
    return x.float() if x.dtype in HALF else x


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype for sums over frames: `dtype`, or float32 instead of a half precision.

    float16 ends at 65,504, which sums over frames exceed; bfloat16 cannot tell 257 from 256, so
    that even a count of frames is wrong.
    """
    return torch.float32 if dtype in HALF else dtype


def mean_valid(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean of `x_BTD` over the places where `mask_BT` (bool) is set, [B, D]; 0 in rows without any.

    Values outside the mask must be finite: they are multiplied by 0.
    """
    sum_BD = (x_BTD * mask_BT.unsqueeze(-1).to(x_BTD.dtype)).sum(dim=1, dtype=wide(x_BTD.dtype))
    count_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1).to(sum_BD.dtype)
    return (sum_BD / count_B1).to(x_BTD.dtype)
