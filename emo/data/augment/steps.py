"""Augmentations of padded audio on the device, one function each.

Each takes values [B, T] (a waveform in ±1) or [B, T, F] (normalised features), float, their mask
bool [B, T] with the valid places first, its settings, and `draw`: (how many) -> float64 [B, how
many] in [0, 1). Each returns values and mask of the same shapes, 0 where the mask is not set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.data.augment.config import GainConfig, MaskConfig, SpecConfig, SpeedConfig

Draw = Callable[[int], np.ndarray]
Step = Callable[[Tensor, Tensor, Any, Draw], tuple[Tensor, Tensor]]


def speed(x: Tensor, mask: Tensor, config: SpeedConfig, draw: Draw) -> tuple[Tensor, Tensor]:
    """Resampled along time, between neighbours linearly."""
    u = draw(2)
    low, high = config.rates
    rate = np.where(u[:, 0] < config.chance, low + (high - low) * u[:, 1], 1.0)
    rate_B1 = _there(rate, x)[:, None]
    length_B1 = mask.sum(dim=1, keepdim=True)
    at_BT = torch.arange(x.shape[1], device=x.device) * rate_B1
    last_B1 = (length_B1 - 1).clamp(min=0)
    new_mask = at_BT <= last_B1
    new_mask &= mask.any(dim=1, keepdim=True)
    before_BT = at_BT.floor()
    share_BT = (at_BT - before_BT).to(x.dtype)
    before_BT = before_BT.long().minimum(last_B1)
    after_BT = (before_BT + 1).minimum(last_B1)
    if x.ndim == 3:
        wide = (-1, -1, x.shape[2])
        before, after = (
            x.gather(1, index[..., None].expand(wide)) for index in (before_BT, after_BT)
        )
        share_BT = share_BT[..., None]
    else:
        before, after = x.gather(1, before_BT), x.gather(1, after_BT)
    moved = before + (after - before) * share_BT
    return moved.masked_fill(~_like(new_mask, x), 0), new_mask


def gain(x: Tensor, mask: Tensor, config: GainConfig, draw: Draw) -> tuple[Tensor, Tensor]:
    """Times a factor a turn."""
    u = draw(2)
    low, high = config.db
    db = np.where(u[:, 0] < config.chance, low + (high - low) * u[:, 1], 0.0)
    return x * _there(10 ** (db / 20), x).to(x.dtype)[:, None], mask


def silence(x: Tensor, mask: Tensor, config: MaskConfig, draw: Draw) -> tuple[Tensor, Tensor]:
    """Stretches of the waveform set to 0."""
    length_B1 = mask.sum(dim=1, keepdim=True)
    u = _there(draw(2 * config.masks), x)
    widths = u[:, : config.masks] * config.width * length_B1
    return x.masked_fill(_bands(x.shape[1], length_B1, widths, u[:, config.masks :]), 0), mask


def spec(x: Tensor, mask: Tensor, config: SpecConfig, draw: Draw) -> tuple[Tensor, Tensor]:
    """Bands of bins and of frames set to 0, the mean of normalised features."""
    u = _there(draw(2 * (config.frequency_masks + config.time_masks)), x)
    width_f, start_f, width_t, start_t = u.split(
        [config.frequency_masks] * 2 + [config.time_masks] * 2, dim=1
    )
    bins = torch.full((len(x), 1), x.shape[2], device=x.device)
    hidden_BF = _bands(
        x.shape[2], bins, (width_f * (config.frequency_width + 1)).floor().minimum(bins), start_f
    )
    length_B1 = mask.sum(dim=1, keepdim=True)
    widest_B1 = (length_B1 * config.time_share).floor().clamp(max=config.time_width)
    hidden_BT = _bands(x.shape[1], length_B1, (width_t * (widest_B1 + 1)).floor(), start_t)
    return x.masked_fill(hidden_BF[:, None, :] | hidden_BT[:, :, None], 0), mask


# By their name in `AugmentConfig`, in the order in which they are applied.
STEPS: dict[str, Step] = {"speed": speed, "gain": gain, "mask": silence, "spec": spec}


def _bands(size: int, length_B1: Tensor, width_BM: Tensor, start_BM: Tensor) -> Tensor:
    """Which of `size` places lie in one of M bands within the first `length`, bool [B, size].

    `start_BM` in [0, 1) is where between the first and the last possible start a band begins.
    """
    start_BM1 = (start_BM * (length_B1 - width_BM)).floor()[..., None]
    place = torch.arange(size, device=length_B1.device)
    return ((place >= start_BM1) & (place < start_BM1 + width_BM[..., None])).any(dim=1)


def _there(values: np.ndarray, x: Tensor) -> Tensor:
    """`values` on the device of `x`, float32: no float64 is to be had on every device."""
    return torch.from_numpy(values.astype(np.float32)).to(x.device, non_blocking=True)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask[..., None] if x.ndim == 3 else mask
