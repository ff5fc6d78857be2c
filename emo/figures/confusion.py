"""The confusion matrix as a picture: colours by row, so that rare classes are seen as well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emo.figures.canvas import (
    BLUE,
    FAINT,
    LINE,
    PAPER,
    Canvas,
    blend,
    ink_on,
    shortened,
    text_width,
)
from emo.metrics import by_class

CELL, GAP, LONGEST = 84, 12, 170  # pixels


def confusion_picture(table: np.ndarray, classes: Sequence[str], title: str = "") -> np.ndarray:
    """uint8 [height, width, 3] of `table` [C, C] (row: truth, column: predicted).

    Every cell shows its count, and below it its share of the row, which is its colour. A class that
    does not occur has an empty row.
    """
    counts = np.asarray(table, np.int64)
    recall = by_class(counts)["recall"]
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    size = len(classes)
    names = [shortened(name, LONGEST) for name in classes]
    left = max(text_width(name) for name in [*names, "truth"]) + 3 * GAP
    top = 4.6 * GAP + (2 * GAP if title else 0)
    canvas = Canvas(round(left + (size + 1) * CELL + GAP), round(top + size * CELL + GAP))
    if title:
        canvas.text((left, 1.6 * GAP), title, size=16)
    canvas.text((left, top - 2.9 * GAP), "predicted as", FAINT, 12)
    canvas.text((left - GAP, top - 1.2 * GAP), "truth", FAINT, 12, "rm")
    for column, name in enumerate(names):
        middle = left + (column + 0.5) * CELL
        canvas.text((middle, top - 1.2 * GAP), shortened(name, CELL - 6, 13), size=13, anchor="mm")
    canvas.text((left + (size + 0.5) * CELL, top - 1.2 * GAP), "recall", FAINT, 13, "mm")
    for row, name in enumerate(names):
        y = top + row * CELL
        canvas.text((left - GAP, y + CELL / 2 - 8), name, anchor="rm")
        canvas.text((left - GAP, y + CELL / 2 + 10), f"{int(total[row, 0])}", FAINT, 12, "rm")
        for column in range(size):
            share = float(shares[row, column])
            colour = blend(PAPER, BLUE, share**0.8)
            x = left + column * CELL
            canvas.box((x, y), (CELL - 1, CELL - 1), colour, LINE)
            ink = ink_on(colour)
            canvas.text((x + CELL / 2, y + 34), str(counts[row, column]), ink, 20, "mm")
            canvas.text((x + CELL / 2, y + 60), f"{100 * share:.0f} %", ink, 13, "mm")
        said = f"{100 * recall[row]:.0f} %" if total[row, 0] else "–"
        canvas.text((left + (size + 0.5) * CELL, y + CELL / 2), said, size=16, anchor="mm")
    return canvas.array()
