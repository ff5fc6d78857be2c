"""Normalisation by the mean and deviation of all training rows (the paper's)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from emo.data.normalise.base import Moments, Normaliser, scaled

if TYPE_CHECKING:
    from shards.store.index import Dataset


@dataclass(frozen=True)
class TrainStatistics(Normaliser):
    """Every turn by the same mean and deviation: those of the training rows, variants included."""

    kind: ClassVar[str] = "train"

    moments: Moments
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_copies": {}}  # a worker has nothing to do with a GPU's memory

    @property
    def bins(self) -> int:  # type: ignore[override]
        return len(self.moments.mean)

    @classmethod
    def groups(cls, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"": rows}

    @classmethod
    def of(cls, measured: Mapping[str, Moments], bins: int) -> Self:
        return cls(measured[""])

    def to_json(self) -> dict[str, Any]:
        # Older programs read this, and wrote it: without a kind.
        return self.moments.to_json()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(Moments.from_json(raw))

    def normalise(self, stored: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        return scaled(stored, mask, *self._on(stored.device))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation there, copied once: a copy from ordinary memory waits for a GPU."""
        if device not in self._copies:
            arrays = (self.moments.mean, self.moments.std)
            mean, std = (torch.from_numpy(array).to(device) for array in arrays)
            self._copies[device] = mean, std
        return self._copies[device]
