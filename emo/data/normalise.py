"""From stored features to a model's input: cropped, and normalised by the training rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shards.errors import UserError
from shards.extract.features.waveform import FULL_SCALE, WAVEFORM
from shards.store import index
from shards.store.read import DamagedSample, ShardReader

LONGEST = 4096  # frames; 47 s at the default hop
LONGEST_WAVE = 800_000  # samples; 50 s at 16 kHz
# Rows of a partial sum. Float addition depends on its order. A rank adds up whole chunks, and the
# chunks are added in the order of rows: so the total is the same on any number of ranks.
CHUNK = 256


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every feature bin, float32 [F], and the frames counted."""

    mean: np.ndarray
    std: np.ndarray
    frames: int
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_copies": {}}  # a worker has nothing to do with a GPU's memory

    def to_json(self) -> dict[str, object]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "frames": self.frames}

    @classmethod
    def from_json(cls, raw: dict) -> Statistics:
        return cls(
            np.asarray(raw["mean"], np.float32),
            np.asarray(raw["std"], np.float32),
            int(raw["frames"]),
        )

    def normalise(self, stored: Tensor, mask: Tensor) -> Tensor:
        """(x - mean) / std where `mask` bool [...] is set and 0 elsewhere, float32 [..., F]."""
        mean, std = self._on(stored.device)
        # A copy even if `stored` is float32 already: the operations below work in place.
        x = stored.to(torch.float32, copy=True).sub_(mean).div_(std)
        return x.masked_fill_(~mask[..., None], 0)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation there, copied once: a copy from ordinary memory waits for a GPU."""
        if device not in self._copies:
            mean, std = (torch.from_numpy(array).to(device) for array in (self.mean, self.std))
            self._copies[device] = mean, std
        return self._copies[device]


def longest(feature: str) -> int:
    """The frames (of a waveform: samples) beyond which a turn is cropped."""
    return LONGEST_WAVE if feature == WAVEFORM.name else LONGEST


def model_input(stored: Tensor, mask: Tensor, statistics: Statistics | None) -> Tensor:
    """Stored `audio` as a model reads it, float32: waveforms scaled to ±1, features normalised."""
    if statistics is None:
        return stored.float() / FULL_SCALE
    return statistics.normalise(stored, mask)


def feature_sums(
    dataset: index.Dataset, member: str, rows: np.ndarray, *, world: int, rank: int
) -> np.ndarray:
    """Partial sums for `statistics_of` over `rows`: this rank takes every `world`-th chunk.

    Returns float64 [chunks of this rank, 2F + 1]: sums of x, of x squared, and the frames.
    """
    reader = ShardReader(dataset, [member])
    chunks = [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]
    width = None
    sums = []
    for chunk in chunks[rank::world]:
        total: np.ndarray | None = None
        for row in chunk.tolist():
            try:
                arrays = reader.read(row)
            except DamagedSample:
                continue  # training reads it again, and `data.damage` decides what happens then
            if member in arrays:
                # float64: float16 squares overflow, and float32 sums over an hour lose digits.
                x_TF = arrays[member][:LONGEST].astype(np.float64)
                part = np.concatenate((x_TF.sum(0), (x_TF**2).sum(0), [len(x_TF)]))
                total = part if total is None else total + part
        if total is not None:
            width = len(total)
        sums.append(total)
    if width is None:
        return np.zeros((len(sums), 1))
    return np.stack([np.zeros(width) if s is None else s for s in sums])


def statistics_of(sums: np.ndarray) -> Statistics:
    """Mean and deviation from all ranks' sums in row order, float64 [chunks, 2F + 1].

    Raises:
        UserError: there is no audio frame at all.
    """
    total = sums.sum(0)
    frames, bins = int(total[-1]), (len(total) - 1) // 2
    if frames == 0:
        raise UserError("the training rows hold no audio frame; does this corpus have audio?")
    mean = total[:bins] / frames
    variance = total[bins:-1] / frames - mean**2
    std = np.sqrt(np.maximum(variance, 1e-8))  # a constant bin: no division by 0
    return Statistics(mean.astype(np.float32), std.astype(np.float32), frames)
