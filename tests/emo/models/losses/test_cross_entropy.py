"""The loss against torch's own, and what rows that do not count may hold."""

import pytest
import torch
from torch.nn import functional as F

from emo.models.losses.cross_entropy import emotion_loss


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 5, generator=generator)
    target = torch.rand(7, 5, generator=generator)
    return logits, target / target.sum(1, keepdim=True), torch.ones(7, dtype=torch.bool)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sum_of_torch_cross_entropy(rows, smoothing):
    logits, target, valid = rows
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(emotion_loss(logits, target, valid, smoothing), expected)


def test_invalid_rows_add_nothing_whatever_they_hold(rows):
    logits, target, valid = rows
    valid = valid.clone()
    valid[[1, 4]] = False
    spoilt = logits.clone()
    spoilt[1], spoilt[4] = float("nan"), float("inf")
    spoilt_target = target.clone()
    spoilt_target[1] = float("nan")
    spoilt.requires_grad_()
    loss = emotion_loss(spoilt, spoilt_target, valid, smoothing=0.1)
    loss.backward()
    torch.testing.assert_close(
        loss.detach(), emotion_loss(logits[valid], target[valid], valid[valid], smoothing=0.1)
    )
    assert torch.equal(spoilt.grad[~valid], torch.zeros(2, 5))
    assert spoilt.grad[valid].abs().sum() > 0


def test_no_valid_row_is_zero_with_zero_gradient(rows):
    logits, target, valid = rows
    logits.requires_grad_()
    loss = emotion_loss(logits, target, torch.zeros_like(valid))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_half_precision_logits_lose_nothing_more_than_their_rounding(rows):
    logits, target, valid = rows
    half = logits.bfloat16()
    loss = emotion_loss(half, target, valid.float())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, emotion_loss(half.float(), target, valid))
    assert emotion_loss(logits.double(), target, valid).dtype == torch.float64
