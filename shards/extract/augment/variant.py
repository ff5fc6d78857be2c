"""`Variant`: all that the program needs to know of one augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shards.extract.augment.vocoder import Analysis, analyse

CLEAN = "clean"  # the recording as it is: in the place of a variant's name


class Clean:
    """The clean wave, float32 [samples] at `rate` (Hz), that all variants of a turn start from."""

    def __init__(self, wave: np.ndarray, rate: int) -> None:
        self.wave, self.rate = wave, rate

    @cached_property
    def analysis(self) -> Analysis:
        """Its analysis for the phase vocoder, made when first asked for and then shared."""
        return analyse(self.wave, self.rate)


@dataclass(frozen=True)
class Variant:
    """One augmentation. It counts once it is in `shards.extract.augment.VARIANTS`.

    The names that `augment.variants` and `data.variants` take, the key of its range in `augment:`
    and that range's check follow from that list.

    Attributes:
        name: of the variant, also a part of its samples' keys.
        setting: key in `augment:` of the range that one number is drawn from, uniformly, for each
            turn. The name tells the unit.
        default: that range. It is a part of what a dataset is: once published, never change it.
        make: (clean wave, the number drawn, the turn's generator for this variant) -> float32
            [samples]. All its randomness comes from that generator.
        least, most: bounds of the range.
    """

    name: str
    setting: str
    default: tuple[float, float]
    make: Callable[[Clean, float, np.random.Generator], np.ndarray]
    least: float = -math.inf
    most: float = math.inf

    def check_range(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """`bounds` if they can be drawn from. Raises ValueError."""
        if bounds[0] > bounds[1]:
            raise ValueError("write a range as [low, high]")
        if bounds[0] < self.least or bounds[1] > self.most:
            raise ValueError(f"stay within {self.least:g} to {self.most:g}")
        return bounds
