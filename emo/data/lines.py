"""A text model's whole input in memory: a line is read from its shard, and checked, once.

Reading costs more than all the rest of such a batch, and a step of a small model is short.
"""

from __future__ import annotations

import numpy as np

MOST_IDS = 2**26  # places for ids, 256 MB: larger datasets are read anew in each epoch


class Lines:
    """The token ids of rows that have been read; only these take memory.

    Args:
        counts: how many ids each row of the dataset has.
        pad: the id that fills shorter lines.
    """

    def __init__(self, counts: np.ndarray, pad: int) -> None:
        self.pad = np.int64(pad)
        # Less the pad, so that memory that nobody has written is a padded line. The last is row -1.
        self.ids = np.zeros((len(counts) + 1, int(counts.max(initial=1))), np.int32)
        self.sizes = np.zeros(len(counts) + 1, np.int64)  # 0: not read

    def keep(self, row: int, ids: np.ndarray) -> None:
        self.ids[row, : len(ids)] = ids - self.pad
        self.sizes[row] = len(ids)

    def take(self, rows: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """What is kept of `rows` (-1: none): int64 [B, longest] padded, and int64 [B] the sizes."""
        return self.ids[rows, :longest] + self.pad, self.sizes[rows]
