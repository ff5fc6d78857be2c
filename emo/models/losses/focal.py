"""Focal loss: turns that are predicted well already count less."""

from __future__ import annotations

from torch import Tensor

from emo.models.losses.config import FocalConfig


def focal(log_BC: Tensor, target_BC: Tensor, config: FocalConfig) -> Tensor:
    """Each class' term [B, C]: target · (1 - p)^gamma · (-log p), with p = exp(`log_BC`).

    Lin et al. 2017, "Focal loss for dense object detection", over distributions.
    """
    # expm1 keeps the digits of 1 - p where p is near 1. The floor keeps the slope of the power
    # finite there: that of x^gamma at 0 is infinite for a gamma below 1, and infinity times a
    # target of 0 would be NaN.
    missing_BC = (-log_BC.expm1()).clamp(min=1e-12)
    return -(target_BC * missing_BC.pow(config.gamma) * log_BC)
