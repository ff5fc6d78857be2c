"""The variant stretch: slower or faster speech of the same pitch."""

from __future__ import annotations

import numpy as np

from shards.extract.augment.variant import Clean, Variant
from shards.extract.augment.vocoder import stretch


def _make(clean: Clean, rate: float, rng: np.random.Generator) -> np.ndarray:
    return stretch(clean.analysis, rate)


# A rate above 1 is faster, so shorter.
STRETCH = Variant("stretch", "stretch_rate", (0.85, 1.15), _make, least=0.5, most=2)
