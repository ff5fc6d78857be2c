"""Supervised contrastive loss with many positives, over a whole global batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from emo.models.losses.config import ContrastiveConfig


def contrastive(vector_GD: Tensor, target_GC: Tensor, config: ContrastiveConfig) -> Tensor:
    """The mean over turns with a positive, another turn of their class; 0 if there is none.

    For turn i with positives P(i): the mean over p in P(i) of
    -log(exp(cos(i, p) / t) / sum over all a other than i of exp(cos(i, a) / t)); t is the
    temperature (Khosla et al. 2020, "Supervised contrastive learning", the sum outside the
    logarithm). The class of a turn is that with its largest share.

    Args:
        vector_GD: one vector a turn; only turns that count.
        target_GC: their targets.
    """
    if len(vector_GD) < 2:
        return vector_GD.sum() * 0.0  # nobody to compare with
    unit_GD = F.normalize(vector_GD, dim=1)
    same = torch.eye(len(unit_GD), dtype=torch.bool, device=unit_GD.device)
    cosine_GG = unit_GD @ unit_GD.T / config.temperature
    log_GG = cosine_GG - torch.logsumexp(
        cosine_GG.masked_fill(same, -torch.inf), dim=1, keepdim=True
    )
    label_G = target_GC.argmax(dim=1)
    positive_GG = (label_G[:, None] == label_G[None]) & ~same
    count_G = positive_GG.sum(dim=1)
    has_G = count_G > 0
    mean_G = (log_GG * positive_GG).sum(dim=1) / count_G.clamp(min=1)
    return -(mean_G * has_G).sum() / has_G.sum().clamp(min=1)
