"""The loss: cross-entropy against hard labels or annotators' distributions alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shards.errors import UserError


def emotion_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    valid_B: Tensor,
    weight_C: Tensor | None = None,
    smoothing: float = 0.0,
    softmax: bool = True,
) -> Tensor:
    """Cross-entropy summed over the valid rows; the caller divides by the *global* count of them.

    Computed in float32, or float64 if the logits are. Rows that are not valid add exactly nothing
    to the loss and to the gradients, whatever they hold, NaN included.

    Args:
        logits_BC: class scores of any float dtype, before the softmax.
        target_BC: probabilities; one-hot for hard labels.
        valid_B: which rows count, bool or 0 and 1.
        weight_C: factor of each class, as torch's cross-entropy takes it.
        smoothing: this share of each target is spread evenly over the classes.
        softmax: False takes the scores as log-likelihoods, whatever they sum to.
    """
    valid_B1 = valid_B.bool().unsqueeze(-1)
    # Emptied before the logarithm: a NaN that is only masked afterwards still spoils the gradient.
    logits_BC = at_least_float32(logits_BC).masked_fill(~valid_B1, 0.0)
    target_BC = target_BC.to(logits_BC.dtype).masked_fill(~valid_B1, 0.0)
    if smoothing:
        even = smoothing / logits_BC.shape[-1]
        target_BC = (target_BC * (1.0 - smoothing) + even) * valid_B1
    if weight_C is not None:
        target_BC = target_BC * weight_C.to(logits_BC.dtype)
    log_BC = torch.log_softmax(logits_BC, dim=-1) if softmax else logits_BC
    return -(target_BC * log_BC).sum()


def balanced_weights(counts: Sequence[int], classes: Sequence[str]) -> list[float]:
    """Class weights that make every class count alike: n / (classes x its training samples).

    Raises:
        UserError: a class has no training sample.
    """
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise UserError(f"no training sample of class {', '.join(empty)}: it cannot be weighted; "
                        "choose another label set or protocol")  # fmt: skip
    return [sum(counts) / (len(counts) * count) for count in counts]


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
