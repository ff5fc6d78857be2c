"""Kullback-Leibler divergence of the predictions from the annotators' distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from emo.models.losses.config import KlConfig


def kl(log_BC: Tensor, target_BC: Tensor, config: KlConfig) -> Tensor:
    """Each class' term [B, C]: target · (log target - `log_BC`), 0 where the target is 0."""
    return torch.xlogy(target_BC, target_BC) - target_BC * log_BC
