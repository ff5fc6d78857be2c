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
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.ids = np.zeros((len(counts), int(counts.max(initial=1))), np.int32)
        self.sizes = np.zeros(len(counts), np.int32)  # 0: not read

    def keep(self, row: int, ids: np.ndarray) -> None:
        self.ids[row, : len(ids)] = ids
        self.sizes[row] = len(ids)

    def put(self, rows: np.ndarray, tokens_BL: np.ndarray, sizes_B1: np.ndarray) -> np.ndarray:
        """Write what is kept of `rows` (-1: none) into the others; bool [B], which rows those are.

        `tokens_BL` int64 is all padding, `sizes_B1` int64 all zero.
        """
        longest = tokens_BL.shape[1]
        kept_B = np.where(rows >= 0, self.sizes[rows], 0)
        sizes_B1[:, 0] = np.minimum(kept_B, longest)
        mask_BL = np.arange(longest) < sizes_B1
        np.copyto(tokens_BL, self.ids[rows, :longest], where=mask_BL)
        return kept_B > 0
