"""Cross-entropy against hard labels or the annotators' distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from emo.models.losses.config import CrossEntropyConfig
from emo.models.numerics import at_least_float32


def cross_entropy(log_BC: Tensor, target_BC: Tensor, config: CrossEntropyConfig) -> Tensor:
    """Each class' term [B, C] of the cross-entropy of log-probabilities `log_BC` and targets."""
    return -(target_BC * log_BC)


def emotion_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    valid_B: Tensor,
    smoothing: float = 0.0,
    softmax: bool = True,
) -> Tensor:
    """Cross-entropy summed over the valid rows; the caller divides by the *global* count of them.

    Computed in float32, or float64 if the logits are. Rows that are not valid add exactly 0 to the
    loss and the gradients, whatever they hold, even NaN.

    Args:
        logits_BC: class scores of any float dtype, before the softmax.
        target_BC: probabilities; one-hot for hard labels.
        valid_B: which rows count, bool or 0 and 1.
        smoothing: this share of each target is spread evenly over the classes.
        softmax: False takes the scores as log-likelihoods, whatever they sum to.
    """
    logits_BC, target_BC = cleared(logits_BC, target_BC, valid_B, smoothing)
    log_BC = torch.log_softmax(logits_BC, dim=-1) if softmax else logits_BC
    return cross_entropy(log_BC, target_BC, CrossEntropyConfig()).sum()


def cleared(
    logits_BC: Tensor,
    target_BC: Tensor,
    valid_B: Tensor,
    smoothing: float,
    allowed_BC: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scores in at least float32, and smoothed targets like them; zeros in rows that do not count.

    A target of zeros adds nothing to any loss whose terms are a target times something finite.
    Targets are smoothed over the classes that are allowed, bool; None: all.
    """
    valid_B1 = valid_B.bool().unsqueeze(-1)
    # Zeroed before the logarithm: a NaN that is masked only afterwards still reaches the gradient,
    # because 0 times NaN is NaN.
    logits_BC = at_least_float32(logits_BC).masked_fill(~valid_B1, 0.0)
    target_BC = target_BC.to(logits_BC.dtype).masked_fill(~valid_B1, 0.0)
    if smoothing and allowed_BC is None:
        even = smoothing / logits_BC.shape[-1]
        target_BC = (target_BC * (1.0 - smoothing) + even) * valid_B1
    elif smoothing and allowed_BC is not None:
        even_BC = smoothing * allowed_BC / allowed_BC.sum(dim=-1, keepdim=True)
        target_BC = (target_BC * (1.0 - smoothing) + even_BC) * valid_B1
    return logits_BC, target_BC
