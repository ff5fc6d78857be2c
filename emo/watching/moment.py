"""`Moment`: what there is to draw when a part has just been predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from emo.figures.turns import Turns
from emo.metrics import confusion
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker


class Predicted(Protocol):
    """Predictions of a part: `rows` int64 [N], `labels` int [N], `probabilities` float64 [N, C]."""

    @property
    def rows(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def probabilities(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Moment:
    """Predictions of `part` at `step`, on rank 0.

    `rows` int64 [N], `labels` int [N], `probabilities` float64 [N, C]. `first` tells that no epoch
    has been shown before.
    """

    run: Run
    part: str
    step: int
    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    first: bool = False

    @classmethod
    def of(
        cls, run: Run, part: str, step: int, given: Predicted, places: Any = slice(None)
    ) -> Moment:
        """What was predicted, or that at some `places` (int64)."""
        shown = (given.rows[places], given.labels[places], given.probabilities[places])
        return cls(run, part, step, *shown)

    @property
    def tracker(self) -> Tracker:
        return self.run.tracker

    @property
    def classes(self) -> Sequence[str]:
        return self.run.experiment.view.label_set.classes

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class, int [N]."""
        return np.asarray(self.probabilities.argmax(1))

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts [C, C]: row the truth, column the prediction."""
        return confusion(self.labels, self.predicted, len(self.classes))

    @cached_property
    def turns(self) -> Turns:
        return Turns(self.run.experiment.dataset)

    def column(self, name: str) -> np.ndarray:
        """Column `name` of the index for the rows [N]."""
        return self.run.experiment.dataset.column(name)[self.rows]

    def facts(self) -> dict[str, Any]:
        """The dataset's settings, as its manifest has them."""
        return self.run.experiment.dataset.manifest.settings
