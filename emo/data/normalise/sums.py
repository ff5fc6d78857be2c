"""Sums over the frames of many rows: the same to the last bit on any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emo.data.normalise.base import LEAST_VARIANCE, LONGEST, Moments
from shards.errors import UserError
from shards.store.index import Dataset
from shards.store.read import DamagedSample, ShardReader

# Rows of a partial sum. Float addition depends on its order. A rank adds up whole chunks, and the
# chunks are added in the order of rows: so the total is the same on any number of ranks.
CHUNK = 256


def in_chunks(groups: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Each group's rows in chunks of up to `CHUNK`, with the group's name."""
    return [
        (name, rows[at : at + CHUNK])
        for name, rows in groups.items()
        for at in range(0, len(rows), CHUNK)
    ]


def feature_sums(
    dataset: Dataset, member: str, chunks: Sequence[np.ndarray], *, world: int, rank: int
) -> np.ndarray:
    """Partial sums for `moments_of`: this rank takes every `world`-th chunk of rows.

    Returns float64 [chunks of this rank, 2F + 1]: sums of x, of x squared, and the frames.
    """
    reader = ShardReader(dataset, [member])
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


def moments_of(sums: np.ndarray) -> Moments:
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
    std = np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    return Moments(mean.astype(np.float32), std.astype(np.float32), frames)
