"""`Variant`: everything that the program needs to know about one augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shards.extract.augment.vocoder import Analysis, analyse

CLEAN = "clean"  # the recording as it is, where others have the name of a variant


class Clean:
    """The clean wave, float32 [samples] at `rate` (Hz), that all variants of a turn start from."""

    def __init__(self, wave: np.ndarray, rate: int) -> None:
        self.wave, self.rate = wave, rate

    @cached_property
    def analysis(self) -> Analysis:
        """Its analysis for the phase vocoder; computed once, and shared by the variants."""
        return analyse(self.wave, self.rate)


@dataclass(frozen=True)
class Variant:
    """One augmentation. It exists once it is in `shards.extract.augment.VARIANTS`.

    From that list follow the names that `augment.variants` and `data.variants` accept, the key of
    its range in `augment:`, and the check of that range.

    Attributes:
        name: of the variant, also a part of its samples' keys.
        setting: key in `augment:` of the range that one number is drawn from, uniformly, for each
            turn. Its name tells the unit.
        default: that range. Never change it: existing configurations would make other datasets.
        make: (clean wave, the number drawn, the turn's generator for this variant) -> float32
            [samples]. All its random numbers must come from that generator.
        least, most: bounds of the range.
    """

    name: str
    setting: str
    default: tuple[float, float]
    make: Callable[[Clean, float, np.random.Generator], np.ndarray]
    least: float = -math.inf
    most: float = math.inf

    def check_range(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """`bounds`, if numbers can be drawn from them. Raises ValueError."""
        if bounds[0] > bounds[1]:
            raise ValueError("write a range as [low, high]")
        if bounds[0] < self.least or bounds[1] > self.most:
            raise ValueError(f"stay within {self.least:g} to {self.most:g}")
        return bounds
