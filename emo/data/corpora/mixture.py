"""How much of each corpus an epoch holds, where that is not simply all of it.

The units of a corpus form an endless stream: one random order of all of them after the other. An
epoch takes the next units of every stream, each corpus' share of the epoch's length. So within one
pass through a corpus every unit is used exactly once, however many epochs the pass takes or however
many passes an epoch makes; and how often each unit is used in an epoch is a pure function of the
seed and the epoch's number. An epoch is as long as without a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emo.data import orders
from shards.configfile import digest


@dataclass(frozen=True)
class Mixture:
    """`corpus` int64 [units], the corpus of each unit; `shares` float64 [corpora], summing to 1.

    A corpus without units has the share 0.
    """

    corpus: np.ndarray
    shares: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Units of each corpus that an epoch uses, int64 [corpora]; they sum to all units."""
        # The largest remainders are rounded up; every corpus that is there gets at least one.
        units = len(self.corpus)
        exact = self.shares * units
        sizes = np.maximum(np.floor(exact).astype(np.int64), self.shares > 0)
        left = units - int(sizes.sum())
        ranked = np.argsort(np.where(self.shares > 0, sizes - exact, np.inf), kind="stable")
        if left > 0:
            sizes[ranked[:left]] += 1
        elif left < 0:  # the least shares were raised to one unit: the largest pays
            sizes[sizes.argmax()] += left
        return sizes

    @property
    def passes(self) -> np.ndarray:
        """How often an epoch goes through each corpus, float64 [corpora]."""
        own = np.bincount(self.corpus, minlength=len(self.shares))
        return self.sizes / np.maximum(own, 1)

    @property
    def fingerprint(self) -> str:
        """Changes with the shares and with the corpus of any unit."""
        corpus = np.ascontiguousarray(self.corpus, np.int64)
        return digest([self.shares.tolist(), orders.hash_array(corpus)])

    def visits(self, seed: int, epoch: int) -> np.ndarray:
        """How often epoch `epoch` uses each unit, int64 [units]."""
        visits = np.zeros(len(self.corpus), np.int64)
        for number, size in enumerate(self.sizes.tolist()):
            if not size:
                continue
            own = np.flatnonzero(self.corpus == number)
            start, stop = epoch * size, (epoch + 1) * size  # in the stream of this corpus
            for turn in range(start // len(own), (stop - 1) // len(own) + 1):
                low, high = (max(0, min(len(own), end - turn * len(own))) for end in (start, stop))
                if high - low == len(own):
                    visits[own] += 1
                else:
                    order = orders.shuffled(orders.pass_stream(seed, turn, number), len(own))
                    visits[own[order[low:high]]] += 1
        return visits
