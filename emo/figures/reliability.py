"""How far confidence can be trusted: bins of confidence, and the diagram of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from emo.figures.canvas import BLUE, FAINT, INK, LINE, ORANGE, PAPER, Canvas, blend

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Turns whose confidence (the highest probability) lies from `low` to `high`."""

    low: float
    high: float
    turns: int
    confidence: float  # mean; 0 without turns
    accuracy: float


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> Sequence[Bin]:
    """Equally wide bins of the confidence of `probabilities` [N, C] for int `labels` [N]."""
    table = np.asarray(probabilities, float)
    confidence = table.max(1)
    right = table.argmax(1) == np.asarray(labels)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        turns = int(inside.sum())
        found.append(
            Bin(
                number / bins,
                (number + 1) / bins,
                turns,
                float(confidence[inside].mean()) if turns else 0.0,
                float(right[inside].mean()) if turns else 0.0,
            )
        )
    return found


def reliability_picture(bins: Sequence[Bin], title: str) -> np.ndarray:
    """uint8 [height, width, 3]: accuracy over confidence, and how many turns each bin has."""
    side, left, top = 300, 56, 44
    canvas = Canvas(left + side + 24, top + side + 118)
    canvas.text((left, 20), title, size=15)

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + confidence * side, top + (1 - accuracy) * side

    for tick in (0, 0.25, 0.5, 0.75, 1):
        canvas.line([at(0, tick), at(1, tick)])
        canvas.text((left - 8, at(0, tick)[1]), f"{100 * tick:.0f}", FAINT, 12, "rm")
    most = max(1, max(one.turns for one in bins))
    base = top + side + 62
    for one in bins:
        x, y = at(one.low, one.accuracy)
        width = side / len(bins) - 2
        if one.turns:
            canvas.box((x + 1, y), (width, top + side - y), blend(PAPER, BLUE, 0.75))
            # The gap between what the model claims and what is true.
            claimed = at(0, one.confidence)[1]
            canvas.line([(x + 1, claimed), (x + width, claimed)], ORANGE, 3)
        height = 40 * one.turns / most
        canvas.box((x + 1, base + 40 - height), (width, max(1, height)), LINE)
    canvas.line([at(0, 0), at(1, 1)], INK, 1)
    canvas.text((left + side / 2, top + side + 16), "confidence %", FAINT, 12, "mm")
    canvas.text((left, top + side + 40), f"turns a bin (at most {most})", FAINT, 12)
    canvas.text((left + side, top + side + 40), "orange: claimed", ORANGE, 12, "rm")
    canvas.text((left + 6, top + 14), "accuracy %", FAINT, 12)
    return canvas.array()
