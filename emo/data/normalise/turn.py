"""Normalisation of each turn by its own mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from emo.data.normalise.base import LEAST_VARIANCE, Moments, Normaliser, scaled

if TYPE_CHECKING:
    from shards.store.index import Dataset


@dataclass(frozen=True)
class TurnStatistics(Normaliser):
    """Each turn by the mean and deviation of its own valid frames, computed on the device."""

    kind: ClassVar[str] = "turn"

    bins: int

    @classmethod
    def groups(cls, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {}  # nothing is measured before

    @classmethod
    def of(cls, measured: Mapping[str, Moments], bins: int) -> Self:
        return cls(bins)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "bins": self.bins}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(int(raw["bins"]))

    def normalise(self, stored: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        x_BTF = stored.to(torch.float32).masked_fill(~mask[..., None], 0)
        frames_B11 = mask.sum(dim=1).clamp(min=1)[:, None, None]
        mean_B1F = x_BTF.sum(dim=1, keepdim=True) / frames_B11
        # Two passes: E[x²] - E[x]² would lose the digits of a quiet bin of large mean.
        off_BTF = (x_BTF - mean_B1F).masked_fill_(~mask[..., None], 0)
        variance_B1F = off_BTF.square_().sum(dim=1, keepdim=True) / frames_B11
        return scaled(stored, mask, mean_B1F, variance_B1F.clamp_(min=LEAST_VARIANCE).sqrt_())
