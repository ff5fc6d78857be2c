"""The variant shift: the wave rotated in time; what leaves at the end comes in at the beginning."""

from __future__ import annotations

import numpy as np

from shards.extract.augment.variant import Clean, Variant


def _make(clean: Clean, share: float, rng: np.random.Generator) -> np.ndarray:
    return np.roll(clean.wave, round(share * len(clean.wave)))


# The share of the wave's length by which it is rotated.
SHIFT = Variant("shift", "shift_share", (0.1, 0.5), _make, least=0, most=1)
