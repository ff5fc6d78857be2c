"""What the attribute head learns: the means of a dataset's turns, from 0 to 1 on their scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emo.models.branch import ModelError
from shards.errors import suggestion
from shards.store.index import Dataset
from shards.store.schema import ATTRIBUTES


@dataclass(frozen=True)
class AttributeTargets:
    """`values` float64 [rows, A]: means as shares of their scales; NaN where a turn has none.

    `scales` has the least and the greatest value of each attribute, by name, in order.
    """

    scales: dict[str, tuple[float, float]]
    values: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str]) -> AttributeTargets:
        """The attributes `names` of every row of `dataset`.

        Raises:
            ModelError: the dataset lacks one of them, or has it on several scales.
        """
        values = np.full((len(dataset), len(names)), np.nan)
        scales: dict[str, set[tuple[float, float]]] = {}
        place = {name: number for number, name in enumerate(names)}
        for row, attributes in enumerate(dataset.table[ATTRIBUTES].to_pylist()):
            for one in attributes or ():
                low, high = one["low"], one["high"]
                scales.setdefault(one["name"], set()).add((low, high))
                if one["name"] in place:
                    values[row, place[one["name"]]] = (one["mean"] - low) / (high - low)
        missing = [f"{name}{suggestion(name, scales)}" for name in names if name not in scales]
        if missing:
            has = f"it has {', '.join(scales)}" if scales else (
                "it has no attributes: build it with `attributes` in the corpus' YAML file, or "
                "corpus.attributes=yes for IEMOCAP (output.update=yes adds them to shards)"
            )  # fmt: skip
            raise ModelError(
                f"model.attributes names {', '.join(missing)}, which {dataset.folder} lacks: {has}"
            )
        several = [name for name in names if len(scales[name]) > 1]
        if several:
            raise ModelError(
                f"{dataset.folder} has {', '.join(several)} on several scales: give all turns of "
                "an attribute one `scale`"
            )
        return cls({name: next(iter(scales[name])) for name in names}, values)

    def on_scale(self, shares_NA: np.ndarray) -> np.ndarray:
        """Values [N, A] on the scales of the corpus, from shares of them."""
        low, high = np.array([*self.scales.values()]).T
        return low + shares_NA * (high - low)
