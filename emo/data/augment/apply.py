"""Augmentation while training; `config` says which kinds there are, `steps` what they do.

Every random number is a function of (seed, epoch, sample), so that a run sees the same batches on
any number of processes, and after any resume. Validation and test have no `Draws`, and so nothing
is done to them.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from emo.data.augment.config import AugmentConfig
from emo.data.augment.draws import Draws
from emo.data.augment.steps import STEPS


def augmented(
    x: Tensor, mask: Tensor, config: AugmentConfig, draws: Draws, rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """`x` [B, T] or [B, T, F] after every step of `config`; also its mask, bool [B, T].

    Args:
        rows: int64 [B], the rows of the dataset (-1: padding).
    """
    for name, step in STEPS.items():
        settings = getattr(config, name)
        if settings is not None:

            def draw(count: int, name: str = name) -> np.ndarray:
                return draws.uniform(name, rows, count)

            x, mask = step(x, mask, settings, draw)
    return x, mask
