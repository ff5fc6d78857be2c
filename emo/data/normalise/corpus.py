"""Normalisation by the mean and deviation of all clean turns of the dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from emo.data.normalise.train import TrainStatistics
from shards.store.schema import CLEAN

if TYPE_CHECKING:
    from shards.store.index import Dataset


class CorpusStatistics(TrainStatistics):
    """As `train`, but of every clean turn, whatever part and label it has.

    So a corpus has one scale in all folds of a protocol, and its rare loud variants do not move it.
    """

    kind: ClassVar[str] = "corpus"

    @classmethod
    def groups(cls, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"": np.flatnonzero(dataset.column("variant") == CLEAN)}

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind} | super().to_json()
