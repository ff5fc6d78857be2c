"""Mixup: who is mixed with whom, how much, and the mixed targets.

The places 2k and 2k + 1 of a *global* batch are partners. `emo.data.plan.rank_slices` keeps them
together, so that every number of ranks and micro-batches mixes the same turns by the same weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from emo.data.augment.config import MixupConfig
from emo.data.augment.draws import Draws
from emo.data.source import Batch
from emo.mixing import PARTNER, WEIGHT, mix


def mixed(batch: Batch, config: MixupConfig, draws: Draws) -> Batch:
    """`batch` with mixed targets, and in its inputs who is mixed with whom.

    Adds `PARTNER`, int64 [B], and `WEIGHT`, float32 [B]: the share of the turn itself, 1 where
    either of both does not count.
    """
    from scipy.special import betaincinv

    rows = batch.row.numpy()
    assert len(rows) % 2 == 0, "a micro-batch holds both partners"
    u = draws.uniform("mixup", rows, 2)
    own = betaincinv(config.alpha, config.alpha, u[:, 0])
    own = np.where(u[:, 1] < config.chance, np.maximum(own, 1 - own), 1.0)
    partner = torch.arange(len(rows)) ^ 1
    both = batch.valid & batch.valid[partner]
    weight = torch.where(both, torch.from_numpy(own), 1.0).float()
    target = mix(batch.target, weight, partner)
    inputs = batch.inputs | {PARTNER: partner, WEIGHT: weight}
    return replace(batch, target=target, inputs=inputs)
