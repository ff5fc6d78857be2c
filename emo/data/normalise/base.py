"""`Normaliser`: what every kind of normalisation is, and the limits of what is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from shards.extract.features.waveform import FULL_SCALE, WAVEFORM

if TYPE_CHECKING:
    from shards.store.index import Dataset

LONGEST = 4096  # frames; 47 s at the default hop
LONGEST_WAVE = 800_000  # samples; 50 s at 16 kHz
LEAST_VARIANCE = 1e-8  # a constant bin: no division by 0


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of every feature bin, float32 [F], and the frames counted."""

    mean: np.ndarray
    std: np.ndarray
    frames: int

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "frames": self.frames}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        mean, std = (np.asarray(raw[name], np.float32) for name in ("mean", "std"))
        return cls(mean, std, int(raw["frames"]))


class Normaliser(ABC):
    """One kind of normalisation, measured.

    Attributes:
        kind: its name in the configuration.
        bins: features a frame.
        remark: what to tell a user who predicts one recording; empty if it is as in training.
    """

    kind: ClassVar[str]
    remark: ClassVar[str] = ""
    bins: int

    @classmethod
    @abstractmethod
    def groups(cls, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The rows to measure, int64, by group; `rows` are those that are trained on."""

    @classmethod
    @abstractmethod
    def of(cls, measured: Mapping[str, Moments], bins: int) -> Normaliser:
        """The normaliser, from the moments of each of its `groups`."""

    @abstractmethod
    def normalise(self, stored: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        """(x - mean) / deviation where `mask` bool [B, T] is set and 0 elsewhere.

        Args:
            stored: [B, T, F], any float dtype.
            rows: int64 [B] on the CPU, rows of the dataset (-1: none), if there is one.

        Returns:
            float32 [B, T, F].
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs."""

    @classmethod
    @abstractmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Normaliser:
        """The inverse of `to_json`."""

    def bound(self, dataset: Dataset) -> Normaliser:
        """The normaliser that knows the rows of `dataset`."""
        return self

    def alone(self) -> Normaliser:
        """The normaliser for a recording outside of any dataset; see `remark`."""
        return self


def longest(feature: str) -> int:
    """The frames (of a waveform: samples) beyond which a turn is cropped."""
    return LONGEST_WAVE if feature == WAVEFORM.name else LONGEST


def model_input(
    stored: Tensor, mask: Tensor, normaliser: Normaliser | None, rows: Tensor | None = None
) -> Tensor:
    """Stored `audio` as a model reads it, float32: waveforms scaled to ±1, features normalised.

    Args:
        rows: as in `Normaliser.normalise`.
    """
    if normaliser is None:
        return stored.float() / FULL_SCALE
    return normaliser.normalise(stored, mask, rows)


def scaled(stored: Tensor, mask: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """`Normaliser.normalise` by a mean and deviation that broadcast to [B, T, F], float32."""
    # A copy even if `stored` is float32 already: the operations below work in place.
    x = stored.to(torch.float32, copy=True).sub_(mean).div_(deviation)
    return x.masked_fill_(~mask[..., None], 0)
