"""Random numbers of augmentation: a pure function of (seed, epoch, sample, purpose).

No generator has a state, so nothing of it is saved or restored, and a sample's numbers do not
depend on the rank, the micro-batch, the position or the steps before.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Draws:
    """The numbers of one epoch of a run with this seed."""

    seed: int
    epoch: int

    def uniform(self, purpose: str, rows: np.ndarray, count: int) -> np.ndarray:
        """`count` numbers in [0, 1) for each of `rows` (int64 [B]), float64 [B, count]."""
        start = np.uint64(self.seed)
        for part in (self.epoch, zlib.crc32(purpose.encode())):
            start = _mixed(np.atleast_1d(start) + np.uint64(part))[0]
        of_row = _mixed(start + rows.astype(np.uint64))
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return (_mixed(of_row[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of `x`: SplitMix64 (Steele et al. 2014)."""
    x = (x + _GOLDEN).astype(np.uint64)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
