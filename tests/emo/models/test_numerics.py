"""Means over more frames than half precision can count or sum."""

import pytest
import torch

from emo.models.audio.cnn import mean_of_frames
from emo.models.numerics import mean_valid


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_means_of_more_than_half_precision_can_hold(dtype):
    """The sum is 180,000 and the count 90,000, where float16 ends at 65,504."""
    x = torch.full((2, 100_000, 3), 2.0, dtype=dtype)
    mask = torch.arange(100_000)[None] < torch.tensor([90_000, 0])[:, None]
    got = mean_valid(x, mask)
    assert got.dtype == dtype
    assert got.tolist() == [[2.0] * 3, [0.0] * 3]
    maps = (x * mask.unsqueeze(-1)).transpose(1, 2)[..., None]  # [B, C, T, F]
    assert mean_of_frames(maps, mask).tolist() == [[[2.0]] * 3, [[0.0]] * 3]


def test_the_mean_is_that_of_each_rows_own_places():
    x = torch.randn(3, 7, 4)
    lengths = [7, 1, 4]
    mask = torch.arange(7)[None] < torch.tensor(lengths)[:, None]
    expected = torch.stack([row[:length].mean(0) for row, length in zip(x, lengths, strict=True)])
    torch.testing.assert_close(mean_valid(x, mask), expected)
