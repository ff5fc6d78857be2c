"""A picture of a few named shares, such as the weights of an encoder's layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emo.figures.canvas import BLUE, FAINT, INK, LINE, PAPER, Canvas, blend, shortened, text_width


def bars_picture(names: Sequence[str], shares: np.ndarray, title: str) -> np.ndarray:
    """uint8 [height, width, 3]: one bar for each of `shares` [N] (0 to 1), under one another."""
    row, top, width = 26, 48, 420
    names = [shortened(name, 160, 13) for name in names]
    left = max([text_width(name, 13) for name in names], default=0) + 24
    canvas = Canvas(round(left + width + 76), top + row * len(names) + 14)
    canvas.text((12, 22), title, size=15)
    most = max(float(np.max(shares, initial=0.0)), 1e-12)
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        y = top + row * number
        canvas.text((left - 10, y + row / 2), name, INK, 13, "rm")
        canvas.box((left, y + 4), (width, row - 8), blend(PAPER, LINE, 0.5))
        canvas.box((left, y + 4), (max(1.0, width * float(share) / most), row - 8), BLUE)
        shown = f"{100 * float(share):.1f} %"
        canvas.text((left + width + 10, y + row / 2), shown, FAINT, 12)
    return canvas.array()
