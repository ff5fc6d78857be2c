"""`emo compare` of cross-validations: means over folds, pooled turns, paired differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emo import metrics
from emo.comparison.result import CompareError, Result, load_result
from emo.comparison.tables import Topics, Word, difference, with_interval
from emo.evaluation.uncertainty import bootstrap, paired_difference
from emo.metrics import METRICS
from emo.runs import files
from emo.runs.finished import data_difference
from shards.errors import UserError

Row = dict[str, Any]
SHOWN = [one for one in METRICS.values() if one.cross_validated and one.of_confusion]


def _mean_and_sd(name: str) -> Word:
    return lambda row: f"{row[name]:.1f} ± {row[name + '_sd']:.1f}"


TOPICS: Topics = {
    "": {
        "folds": lambda row: str(row["folds"]),
        "turns": lambda row: str(row["n"]),
        **{f"{one.heading}, mean ± sd": _mean_and_sd(one.name) for one in SHOWN[:3]},
    },
    "All folds' turns together": {
        one.heading: with_interval(f"pooled_{one.name}") for one in SHOWN[:3]
    },
    "Differences in WA to the best": {
        "over folds": difference("folds_to_best"),
        "over turns": difference("turns_to_best"),
    },
}


@dataclass(frozen=True)
class CrossValidation:
    """The finished folds of one folder by name, in the order of their names."""

    folder: Path
    folds: dict[str, Result]

    @property
    def name(self) -> str:
        return str(next(iter(self.folds.values())).facts["name"])

    def values(self, metric: str) -> np.ndarray:
        """The fraction of each fold."""
        return np.array([_scores(one)[metric] for one in self.folds.values()])

    @property
    def labels(self) -> np.ndarray:
        return np.concatenate([one.turns.labels for one in self.folds.values()])

    @property
    def predicted(self) -> np.ndarray:
        return np.concatenate([one.turns.predicted for one in self.folds.values()])


def _scores(one: Result) -> dict[str, Any]:
    turns = one.turns
    return metrics.evaluate(turns.labels, turns.probabilities, turns.classes) | one.scores


def is_cross_validation(folder: Path) -> bool:
    """Whether `folder` holds the runs of folds, finished or not."""
    return any(files.config(path).is_file() for path in folder.glob("fold-*"))


def open_all(folders: Sequence[Path], part: str) -> list[CrossValidation]:
    """Read finished cross-validations that may stand in one table.

    Raises:
        CompareError: one of them is a run, or has not ended, or they differ in corpus or classes.
    """
    runs = [str(folder) for folder in folders if not is_cross_validation(folder)]
    if runs:
        others = [folder for folder in folders if is_cross_validation(folder)]
        fold = sorted(others[0].glob("fold-*"))[0]
        raise CompareError(
            f"{', '.join(map(str, others))}: a cross-validation; {', '.join(runs)}: a run. Their "
            "numbers are of other turns: compare cross-validations with one another, or runs with "
            f"one another (a fold is a run: {fold})"
        )
    lacking = [str(folder) for folder in folders if not (folder / files.CROSSVAL).is_file()]
    if lacking:
        raise CompareError(
            f"{', '.join(lacking)}: not all folds are trained; the same `emo crossval` command "
            "again goes on with them"
        )
    found = [_open(folder, part) for folder in folders]
    first = next(iter(found[0].folds.values()))
    for other in found[1:]:
        theirs = next(iter(other.folds.values()))
        different = data_difference(first.facts, theirs.facts, ("corpus", "classes"))
        if different is not None:
            raise CompareError(
                f"{found[0].folder} and {other.folder} differ in {different.what} "
                f"({different.ours} against {different.theirs}): their numbers cannot be compared"
            )
    return found


def _open(folder: Path, part: str) -> CrossValidation:
    # Those that the result was made of: a folder may hold more, of other seeds.
    try:
        names = list(json.loads((folder / files.CROSSVAL).read_text())["folds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / files.CROSSVAL} is damaged ({error}): remove it, and run the "
                        "same `emo crossval` command again") from None  # fmt: skip
    return CrossValidation(folder, {name: load_result(folder / name, part) for name in names})


def rows_of(found: Sequence[CrossValidation]) -> list[Row]:
    """One row each: mean and deviation over folds, pooled scores, and paired differences."""
    best = max(found, key=lambda one: float(one.values("wa").mean()))
    names = [one.name for one in found]
    rows = []
    for one in found:
        label = one.name if names.count(one.name) == 1 else str(one.folder)
        row: Row = {"run": label, "folds": len(one.folds), "n": len(one.labels)}
        classes = next(iter(one.folds.values())).turns.classes
        intervals = bootstrap(one.labels, one.predicted, len(classes))
        pooled = metrics.of_confusion(metrics.confusion(one.labels, one.predicted, len(classes)))
        for metric in SHOWN:
            values = metric.scale * one.values(metric.name)
            row[metric.name] = float(values.mean())
            row[f"{metric.name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            row[f"pooled_{metric.name}"] = metric.scale * pooled[metric.name]
            low, high = intervals[metric.name]
            row[f"pooled_{metric.name}_low"] = metric.scale * low
            row[f"pooled_{metric.name}_high"] = metric.scale * high
        if one is not best and unpaired(one, best) is None:
            row |= _differences(one, best)
        rows.append(row)
    return rows


def unpaired(one: CrossValidation, other: CrossValidation) -> str | None:
    """Why two cross-validations have no paired differences; None if their folds match."""
    if list(one.folds) != list(other.folds):
        return f"their folds are {', '.join(one.folds)} and {', '.join(other.folds)}"
    for name, fold in one.folds.items():
        theirs = other.folds[name]
        different = data_difference(fold.facts, theirs.facts, ("protocol", "parts"))
        if different is not None:
            return f"{name} has another {different.what}"
        if fold.turns.utterances != theirs.turns.utterances:
            return f"{name} did not predict the same turns"
    return None


def _differences(one: CrossValidation, best: CrossValidation) -> Row:
    by_fold = 100 * (one.values("wa") - best.values("wa"))
    over_turns = paired_difference(one.labels, one.predicted, best.predicted)
    row = {
        "turns_to_best": 100 * over_turns["difference"],
        "turns_to_best_se": 100 * over_turns["se"],
    }
    if len(by_fold) > 1:
        row["folds_to_best"] = float(by_fold.mean())
        row["folds_to_best_se"] = float(by_fold.std(ddof=1) / np.sqrt(len(by_fold)))
    return row


def title_of(found: Sequence[CrossValidation], part: str) -> str:
    first = next(iter(found[0].folds.values()))
    return f"cross-validations · {part} part · {first.facts['dataset']['folder']}"


def notes_of(found: Sequence[CrossValidation]) -> list[str]:
    """How to read the tables, and which cross-validations have no paired differences."""
    best = max(found, key=lambda one: float(one.values("wa").mean()))
    notes = [
        "mean ± sd: over the folds, each with the same weight. Together: every turn with the same "
        "weight; in brackets 95 % bootstrap intervals over turns.",
        "Differences: ± is one paired standard error, over folds (which share training turns: it "
        "is too small rather than too large) or over turns.",
    ]
    for one in found:
        if one is not best and (why := unpaired(one, best)) is not None:
            notes.append(f"{one.folder} and {best.folder} are not paired: {why}.")
    return notes
