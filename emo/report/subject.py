"""`Subject`: one run of a report, or one cross-validation with all its folds' turns together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emo import metrics
from emo.comparison.compare import Comparison
from emo.comparison.result import Result
from emo.config import ExperimentConfig
from emo.data.dialogues import source_hash
from emo.evaluation.predictions import TurnPredictions
from emo.runs import files
from emo.runs.finished import read_record
from emo.runs.folder import load_config
from shards.errors import UserError
from shards.store.index import Dataset, open_dataset
from shards.store.schema import CLEAN


@dataclass(frozen=True)
class Subject:
    """`results`: of the run, or of each fold."""

    name: str
    results: list[Result]

    @property
    def facts(self) -> dict[str, Any]:
        """`metrics.json` of the run, or of the first fold."""
        return self.results[0].facts

    @property
    def run(self) -> Path:
        """The run, or the first fold."""
        return self.results[0].run

    @property
    def is_cross_validation(self) -> bool:
        return len(self.results) > 1

    @cached_property
    def config(self) -> ExperimentConfig:
        return load_config(self.run)

    @cached_property
    def record(self) -> dict[str, Any]:
        return read_record(self.run)

    @cached_property
    def turns(self) -> TurnPredictions:
        """The turns of all folds."""
        every = [one.turns for one in self.results]
        return TurnPredictions(
            [name for one in every for name in one.utterances],
            [name for one in every for name in one.dialogues],
            np.concatenate([one.labels for one in every]),
            np.concatenate([one.probabilities for one in every]),
            every[0].classes,
        )

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Every metric of the turns, as `emo.metrics.evaluate` gives them."""
        turns = self.turns
        return metrics.evaluate(turns.labels, turns.probabilities, turns.classes)

    @cached_property
    def dataset(self) -> Dataset | None:
        """The dataset that it was trained on; None if that is gone, or another one by now."""
        try:
            found = open_dataset(Path(self.facts["dataset"]["folder"]))
        except UserError:
            return None
        return found if source_hash(found) == self.facts["dataset"]["hash"] else None

    @cached_property
    def clean_rows(self) -> dict[str, int]:
        """By utterance, its clean row of the dataset; {} without one."""
        if self.dataset is None:
            return {}
        names, variants = self.dataset.column("utterance"), self.dataset.column("variant")
        return {str(names[row]): int(row) for row in np.flatnonzero(variants == CLEAN)}

    def column(self, name: str) -> np.ndarray | None:
        """Column `name` of the index for the turns [N]; None if it is not there for all of them."""
        rows = [self.clean_rows.get(one, -1) for one in self.turns.utterances]
        if self.dataset is None or min(rows) < 0 or name not in self.dataset.table.column_names:
            return None
        values = self.dataset.column(name)[rows]
        return None if any(one is None for one in values.tolist()) else values

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """By run, the lines of its log; a run without one is left out."""
        found = {}
        for one in self.results:
            path = one.run / files.LOG
            if path.is_file():
                found[one.run.name] = [json.loads(line) for line in path.read_text().splitlines()]
        return found


def subjects_of(comparison: Comparison) -> list[Subject]:
    return [Subject(name, results) for name, results in comparison.systems.items()]
