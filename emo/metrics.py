"""The metrics, as one table: evaluation, intervals, selection, logs and all tables follow it.

Pure numpy. All values are fractions, not per cent; where a class is never predicted or never
occurs, a 0/0 counts as 0. To add a metric, write its formula and add one line to `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.errors import suggestion

Floats = NDArray[np.float64]


# --- formulas of confusion matrices [..., C, C] (row: truth, column: predicted) -> [...] ----------


def accuracy(table: Floats) -> Floats:
    """WA, the paper's "weighted accuracy": the share of turns that are right."""
    counts = by_class(table)
    return counts["hits"].sum(axis=-1) / counts["support"].sum(axis=-1)


def mean_recall(table: Floats) -> Floats:
    """UA, "unweighted accuracy": the mean recall of the classes that occur."""
    counts = by_class(table)
    return counts["recall"].sum(axis=-1) / (counts["support"] > 0).sum(axis=-1)


def weighted_f1(table: Floats) -> Floats:
    """The mean of the classes' F1, weighted by how often each class occurs."""
    counts = by_class(table)
    return (counts["f1"] * counts["support"]).sum(axis=-1) / counts["support"].sum(axis=-1)


def macro_f1(table: Floats) -> Floats:
    """The mean F1 of the classes that occur: a rare class counts as much as a common one."""
    counts = by_class(table)
    return counts["f1"].sum(axis=-1) / (counts["support"] > 0).sum(axis=-1)


def by_class(table: ArrayLike) -> dict[str, Floats]:
    """hits, support, precision, recall and f1 [..., C] of confusion matrices [..., C, C]."""
    table = np.asarray(table, float)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    support, predicted = table.sum(axis=-1), table.sum(axis=-2)
    return {
        "hits": hits,
        "support": support,
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
    }


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


# --- formulas of labels int [N] and probabilities [N, C] -> one number ----------------------------


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy over equally wide bins of confidence (Guo 2017)."""
    table = np.asarray(probabilities, float)
    confidence = table.max(axis=1)
    right = table.argmax(axis=1) == np.asarray(labels)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """One number that says how good predictions are.

    Args:
        name: its key in `metrics.json`, in the log and TensorBoard (`val/NAME`), in
            `train.select`, and in the CSV of `emo compare`.
        title: its name in tables and messages.
        of_confusion: the formula, if the confusion matrix is enough. Such a metric gets bootstrap
            intervals, and can be filled in for runs that were evaluated before it was added.
        of_probabilities: the formula, if it needs labels and probabilities. A metric without
            either formula comes with the predictions: the loss does, and the mean CCC of a model
            that predicts attributes.
        higher_is_better: which way `train.select` looks.
        percent: whether it is shown in per cent.
        watched: computed at every validation, logged, and allowed in `train.select`.
        cross_validated: whether `emo crossval` gives its mean and deviation over the folds.
    """

    name: str
    title: str
    of_confusion: Callable[[Floats], Floats] | None = None
    of_probabilities: Callable[[ArrayLike, ArrayLike], float] | None = None
    higher_is_better: bool = True
    percent: bool = True
    watched: bool = True
    cross_validated: bool = True

    @property
    def heading(self) -> str:
        """Over a column of a table."""
        return f"{self.title} %" if self.percent else self.title

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown."""
        return 100 if self.percent else 1

    def show(self, value: float | None) -> str:
        """`value` as tables and messages show it; a dash for one that is not known."""
        if value is None:
            return "–"
        return f"{self.scale * value:.{1 if self.percent else 3}f}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("wa", "WA", of_confusion=accuracy),
        Metric("ua", "UA", of_confusion=mean_recall),
        Metric("weighted_f1", "weighted F1", of_confusion=weighted_f1),
        Metric("macro_f1", "macro F1", of_confusion=macro_f1),
        Metric("ece", "ECE", of_probabilities=expected_calibration_error, higher_is_better=False,
               watched=False, cross_validated=False),
        Metric("ccc", "CCC", percent=False, cross_validated=False),
        Metric("loss", "loss", higher_is_better=False, percent=False, cross_validated=False),
    )
}  # fmt: skip
ALIASES = {"f1": "weighted_f1"}  # names of earlier versions, in configurations and results

OF_CONFUSION = {
    metric.name: metric.of_confusion for metric in METRICS.values() if metric.of_confusion
}
WATCHED = tuple(metric for metric in METRICS.values() if metric.watched)


# --- all metrics of some predictions --------------------------------------------------------------


def evaluate(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """Every metric of `probabilities` [N, C] against the hard `labels` [N] in 0 ... C-1.

    Returns a JSON-able dict: `n`, `labels` (the class names), each metric that has a formula,
    `classes` (name -> precision, recall, f1, support), `confusion` (row: truth, column: predicted).

    Raises:
        ValueError: nothing to evaluate, shapes that do not fit, a label out of range, a NaN.
    """
    rows, table_NC = _checked(labels, probabilities, len(classes))
    table = confusion(rows, table_NC.argmax(axis=1), len(classes))
    counts = by_class(table)
    return {
        "n": len(rows),
        "labels": list(classes),
        **of_confusion(table),
        **{
            metric.name: metric.of_probabilities(rows, table_NC)
            for metric in METRICS.values()
            if metric.of_probabilities
        },
        "classes": {
            name: {
                "precision": float(counts["precision"][index]),
                "recall": float(counts["recall"][index]),
                "f1": float(counts["f1"][index]),
                "support": int(counts["support"][index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": table.tolist(),
    }


def of_confusion(table: ArrayLike) -> dict[str, float]:
    """Every metric for which one confusion matrix [C, C] is enough."""
    counts = np.asarray(table, float)
    return {name: float(formula(counts)) for name, formula in OF_CONFUSION.items()}


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: row the truth, column the prediction."""
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def in_words(values: Mapping[str, float]) -> str:
    """The watched metrics that `values` holds, on one line: "WA 61.0 UA 60.2 ... loss 0.911"."""
    return " ".join(
        f"{metric.title} {metric.show(values[metric.name])}"
        for metric in WATCHED
        if metric.name in values
    )


def _checked(
    labels: ArrayLike, probabilities: ArrayLike, classes: int
) -> tuple[NDArray[np.int64], Floats]:
    rows, table = np.asarray(labels, np.int64), np.asarray(probabilities, float)
    if not len(rows):
        raise ValueError("nothing to evaluate")
    if table.shape != (len(rows), classes):
        raise ValueError(f"probabilities are {table.shape}, wanted {(len(rows), classes)}")
    if rows.min() < 0 or rows.max() >= classes:
        raise ValueError(f"labels must lie in 0 ... {classes - 1}")
    if not np.isfinite(table).all():
        raise ValueError("some probabilities are not finite")
    return rows, table


# --- choosing the best epoch ----------------------------------------------------------------------


def selectable(name: str) -> str:
    """The metric that `train.select` means by `name`.

    Raises:
        ValueError: there is none, or it is not computed at every validation.
    """
    name = ALIASES.get(name, name)
    known = [metric.name for metric in WATCHED]
    if name not in known:
        hint = suggestion(name, known)
        raise ValueError(f"no metric of this name{hint} (there are {', '.join(known)})")
    return name


def selection_score(name: str, values: Mapping[str, float]) -> float:
    """What selection by the metric `name` compares: its value, negated where lower is better."""
    return values[name] if METRICS[name].higher_is_better else -values[name]


def improves(score: float, loss: float, best_score: float | None, best_loss: float | None) -> bool:
    """Whether an epoch is better than the best so far: by its score, at a tie by the lower loss.

    `best_score` is None before the first epoch. `best_loss` is None in checkpoints that were
    written before it was kept; then the earlier epoch wins a tie.
    """
    if best_score is None or score > best_score:
        return True
    return score == best_score and best_loss is not None and loss < best_loss
