"""Which classes a corpus can have: the others are left out of its rows' loss and prediction.

Corpora have different emotions. Where a corpus has no surprise, a turn of it is no example of "not
surprised": nobody was asked. So for its rows the probabilities are those of its own classes alone,
and the scores of the others get no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from emo.data.corpora.union import Corpora
from shards.corpora.labels import LabelSet
from shards.store.index import Dataset


@dataclass(frozen=True)
class ClassMasks:
    """`possible` bool [corpora, C]; `corpus` int64 [rows], the corpus of each row."""

    possible: np.ndarray
    corpus: np.ndarray

    @classmethod
    def of_dataset(cls, dataset: Dataset, label_set: LabelSet) -> ClassMasks | None:
        """Those of several corpora; None where every corpus can have every class.

        A corpus can have a class if any of its turns has it, as label or as a vote.
        """
        if not isinstance(dataset, Corpora):
            return None
        possible = np.stack([_possible(part, label_set) for part in dataset.parts])
        return None if possible.all() else cls(possible, dataset.corpus)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The classes that `rows` (int64; -1: none) can have, bool [rows, C]."""
        return self.possible[self.corpus[rows]] | (rows < 0)[:, None]

    def absent(self, names: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
        """By the name of each corpus that lacks any, the classes that it cannot have."""
        return {
            name: [one for one, here in zip(classes, row, strict=True) if not here]
            for name, row in zip(names, self.possible, strict=True)
            if not row.all()
        }


def _possible(part: Dataset, label_set: LabelSet) -> np.ndarray:
    found = set(pc.unique(part.table["label"]).to_pylist())
    votes = pc.list_flatten(pc.list_flatten(part.table["votes"]))
    classes = [label_set.class_of(code) for code in found | set(pc.unique(votes).to_pylist())]
    there = np.zeros(len(label_set.classes), bool)
    there[[one for one in classes if one >= 0]] = True
    return there
