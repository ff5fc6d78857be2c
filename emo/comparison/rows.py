"""The numbers of a comparison: one row a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emo import metrics
from emo.comparison.ceilings import attribute_ceilings, bayes_predictions
from emo.comparison.published import published_accuracy
from emo.comparison.result import Result, row_labels
from emo.evaluation.attributes.scores import SCORES
from emo.evaluation.uncertainty import bootstrap, paired_difference

Row = dict[str, Any]


def needs_grouping(results: Sequence[Result]) -> bool:
    """Whether to resample whole dialogues: a context model's turns are not independent."""
    return any(result.sees for result in results)


def rows_of(results: Sequence[Result]) -> list[Row]:
    """One row a run: metrics with intervals, the ceiling, distances to it and to the best run."""
    grouped = needs_grouping(results)
    best = max(results, key=lambda one: _accuracy(one, one.turns.predicted))
    rows = []
    for result, label in zip(results, row_labels(results), strict=True):
        groups = result.turns.dialogues if grouped else None
        row = {"run": label, "system": result.system, "sees": result.sees,
               "reads": " + ".join(result.reads), "n": len(result.turns.labels)}  # fmt: skip
        row |= _metrics(result, groups) | _one_modality(result)
        row |= _distances(result, best, groups)
        published = published_accuracy(result)
        if published is not None:
            row["published"] = published
        rows.append(row)
    return rows


def _metrics(result: Result, groups: Sequence[str] | None) -> Row:
    """Every metric of the predictions with its interval, in the unit in which it is shown."""
    turns, stored = result.turns, result.scores
    values = stored | metrics.evaluate(turns.labels, turns.probabilities, turns.classes)
    intervals = bootstrap(turns.labels, turns.predicted, len(turns.classes), groups)
    row: Row = {}
    for metric in metrics.METRICS.values():
        if metric.name in values:
            row[metric.name] = metric.scale * values[metric.name]
        if metric.name in intervals:
            low, high = intervals[metric.name]
            row[f"{metric.name}_low"] = metric.scale * low
            row[f"{metric.name}_high"] = metric.scale * high
    row |= _attributes(stored)
    row |= {f"ccc_{name}_ceiling": best for name, best in attribute_ceilings(result).items()}
    row["ece_before"] = 100 * stored["ece_before"]
    row["js"] = stored["agreement"]["jensen_shannon"]
    return row


def _attributes(stored: Mapping[str, Any]) -> Row:
    """Of each attribute the CCC with its interval, the correlation and the RMSE, as evaluated."""
    row: Row = {}
    for name, one in stored.get("attributes", {}).items():
        for score in SCORES:
            if one[score] is not None:
                row[f"{score}_{name}"] = one[score]
                row[f"{score}_{name}_low"], row[f"{score}_{name}_high"] = one["interval_95"][score]
    return row


def _one_modality(result: Result) -> Row:
    """A fusion's WA if it is given one modality only, and the difference to both."""
    row: Row = {}
    for kept, one in result.scores.get("alone", {}).items():
        row[f"{kept}_alone"] = 100 * one["wa"]
        row[f"{kept}_alone_cost"] = 100 * one["wa_to_both"]
        row[f"{kept}_alone_cost_se"] = 100 * one["se"]
    return row


def _distances(result: Result, best: Result, groups: Sequence[str] | None) -> Row:
    """The ceilings, if known, and paired differences in WA to the best run and to the ceiling."""
    row: Row = {}
    others = {} if result is best else {"to_best": best.turns.predicted}
    ceiling = bayes_predictions(result)
    if ceiling is not None:
        row["ceiling"] = 100 * _accuracy(result, ceiling)
        others["to_ceiling"] = ceiling
        without_context = bayes_predictions(result, context=False)
        if result.sees and without_context is not None:
            row["ceiling_alone"] = 100 * _accuracy(result, without_context)
    for name, predicted in others.items():
        paired = paired_difference(result.turns.labels, result.turns.predicted, predicted, groups)
        row[name], row[f"{name}_se"] = 100 * paired["difference"], 100 * paired["se"]
    return row


def _accuracy(result: Result, predicted: np.ndarray) -> float:
    return float((predicted == result.turns.labels).mean())
