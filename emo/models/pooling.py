"""Pooling over time: from one vector a frame or token to one vector a turn. Padding has no part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo.models.branch import ModelError
from emo.models.numerics import mean_valid, wide
from shards.errors import suggestion

ATTENTION = 128  # the width inside attention over frames
FLOOR = 1e-5  # of a variance: the root's slope at 0 would be infinite


class Pooling(nn.Module):
    """Base of all poolings; made with the width D of what it reads.

    `forward` takes states [B, T, D] (finite also where they are padding) and a bool mask [B, T],
    and gives [B, `width`], in the states' dtype: zeros in rows without a valid place.
    """

    def __init__(self, states_width: int) -> None:
        super().__init__()
        self.width = states_width


class Mean(Pooling):
    """The mean of the valid places."""

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        return mean_valid(states_BTD, mask_BT)


class Statistics(Pooling):
    """Mean and standard deviation side by side (population, the variance at least `FLOOR`)."""

    def __init__(self, states_width: int) -> None:
        super().__init__(states_width)
        self.width = 2 * states_width

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        count_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        even_BT = mask_BT.to(wide(states_BTD.dtype)) / count_B1
        return _moments(states_BTD, even_BT)


class Attention(Pooling):
    """The mean with weights a: the softmax over time of v · tanh(W h) (Bahdanau et al. 2015)."""

    def __init__(self, states_width: int) -> None:
        super().__init__(states_width)
        self.inner = nn.Linear(states_width, ATTENTION)
        self.score = nn.Linear(ATTENTION, 1, bias=False)

    def weights(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Float [B, T] in at least float32, summing to 1 over the valid places, 0 elsewhere."""
        score_BT = self.score(torch.tanh(self.inner(states_BTD))).squeeze(-1)
        score_BT = score_BT.to(wide(score_BT.dtype))
        # The lowest finite number, not -inf, with which a row without a frame would be NaN.
        score_BT = score_BT.masked_fill(~mask_BT, torch.finfo(score_BT.dtype).min)
        return torch.softmax(score_BT, dim=1) * mask_BT

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        weights_BT = self.weights(states_BTD, mask_BT)
        return _mean(states_BTD, weights_BT).to(states_BTD.dtype)


class AttentiveStatistics(Attention):
    """Mean and standard deviation with the weights of `Attention` (Okabe et al. 2018)."""

    def __init__(self, states_width: int) -> None:
        super().__init__(states_width)
        self.width = 2 * states_width

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        return _moments(states_BTD, self.weights(states_BTD, mask_BT))


# By the name in the configuration of a branch; each branch lists those it takes in its config.py.
POOLINGS: dict[str, type[Pooling]] = {
    "mean": Mean,
    "statistics": Statistics,
    "attention": Attention,
    "attentive_statistics": AttentiveStatistics,
}


def make_pooling(kind: str, states_width: int, setting: str) -> Pooling:
    """The pooling called `kind`; `setting` is the key that names it, for messages.

    Raises:
        ModelError: there is none of that name.
    """
    if kind not in POOLINGS:
        raise ModelError(
            f"{setting}: no pooling {kind!r}{suggestion(kind, POOLINGS)}; there are "
            f"{', '.join(POOLINGS)}"
        )
    return POOLINGS[kind](states_width)


def _mean(states_BTD: Tensor, weights_BT: Tensor) -> Tensor:
    """[B, D] in the dtype of the weights."""
    return torch.einsum("bt,btd->bd", weights_BT, states_BTD.to(weights_BT.dtype))


def _moments(states_BTD: Tensor, weights_BT: Tensor) -> Tensor:
    """Weighted mean and standard deviation, [B, 2D]; zeros in rows whose weights are all 0."""
    mean_BD = _mean(states_BTD, weights_BT)
    # Around the mean, not the mean of squares less its square: that loses all digits where the
    # deviation is small beside the mean.
    apart_BTD = states_BTD.to(weights_BT.dtype) - mean_BD[:, None]
    variance_BD = _mean(apart_BTD.square(), weights_BT)
    deviation_BD = variance_BD.clamp(min=FLOOR).sqrt() * (weights_BT.sum(dim=1, keepdim=True) > 0)
    return torch.cat([mean_BD, deviation_BD], dim=1).to(states_BTD.dtype)
