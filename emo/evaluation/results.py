"""From predictions to numbers: what validation logs, and what `metrics.json` holds for a part."""

from __future__ import annotations

from typing import Any

import numpy as np

from emo import metrics
from emo.data.corpora.masks import ClassMasks
from emo.data.corpora.union import Corpora
from emo.evaluation.agreement import agreement
from emo.evaluation.attributes.scores import SCORES, mean_ccc, scores
from emo.evaluation.outputs import Predictions
from emo.evaluation.predictions import TurnPredictions
from emo.evaluation.uncertainty import RESAMPLES, bootstrap, paired_difference
from shards.store.index import Dataset
from shards.views.view import View


def validation_scores(
    predictions: Predictions, view: View
) -> tuple[dict[str, float], dict[str, float]]:
    """The watched metrics, for selection and the log, and the recall of each class by name.

    When a model begins to predict only a few of the classes, the recalls show it first.
    """
    full = metrics.evaluate(predictions.labels, predictions.probabilities, view.label_set.classes)
    full["loss"] = predictions.loss
    if predictions.attributes is not None:
        full["ccc"] = mean_ccc(attribute_scores(predictions, resamples=0))
    values = {one.name: full[one.name] for one in metrics.WATCHED if full.get(one.name) is not None}
    return values, {name: row["recall"] for name, row in full["classes"].items()}


def only_class(predictions: Predictions, view: View) -> str | None:
    """The class that every row is predicted to be; None if there are several, or no rows."""
    found = set(predictions.probabilities.argmax(1).tolist())
    return view.label_set.classes[found.pop()] if len(found) == 1 else None


def part_results(
    predictions: Predictions, before: np.ndarray, view: View, dataset: Dataset
) -> dict[str, Any]:
    """Everything about one part for `metrics.json`, with bootstrap intervals.

    `predictions` have been scaled with the temperature, and corrected to other class shares where
    that was asked for. `ece_before` is the calibration error of `before`, the probabilities [N, C]
    without the temperature. `loss` is without both, as in the log of the training.
    """
    classes = view.label_set.classes
    full = metrics.evaluate(predictions.labels, predictions.probabilities, classes)
    full["ece_before"] = metrics.expected_calibration_error(predictions.labels, before)
    predicted = predictions.probabilities.argmax(1)
    full["interval_95"] = bootstrap(predictions.labels, predicted, len(classes))
    full["loss"] = predictions.loss
    full["skipped"] = predictions.skipped
    if predictions.attributes is not None:
        full["attributes"] = attribute_scores(predictions)
        full["ccc"] = mean_ccc(full["attributes"])
    votes = dataset.table["votes"].take(predictions.rows).to_pylist()
    full["agreement"] = agreement(votes, predictions.probabilities, view.label_set)
    if isinstance(dataset, Corpora):
        full["corpora"] = by_corpus(predictions, view, dataset)
    return full


def by_corpus(predictions: Predictions, view: View, dataset: Corpora) -> dict[str, dict[str, Any]]:
    """The metrics of each corpus with turns in the part, over the classes that it can have."""
    masks = ClassMasks.of_dataset(dataset, view.label_set)
    found: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(dataset.names):
        own = dataset.corpus[predictions.rows] == number
        if not own.any():
            continue
        columns = np.arange(len(view.label_set.classes))
        if masks is not None:
            columns = np.flatnonzero(masks.possible[number])
        labels = np.searchsorted(columns, predictions.labels[own])
        probabilities = predictions.probabilities[own][:, columns]
        classes = [view.label_set.classes[column] for column in columns]
        found[name] = metrics.evaluate(labels, probabilities, classes) | {
            "interval_95": bootstrap(labels, probabilities.argmax(1), len(classes))
        }
    return found


def attribute_scores(predictions: Predictions, resamples: int = RESAMPLES) -> dict[str, Any]:
    """CCC, Pearson and RMSE of each attribute; intervals if there are `resamples`."""
    assert predictions.attributes is not None
    return {
        name: scores(predicted, true, resamples)
        for name, (predicted, true) in predictions.attributes.items()
    }


def watched_attributes(predictions: Predictions) -> dict[str, dict[str, float]]:
    """The scores that validation logs, by attribute: the groups `val_NAME`."""
    if predictions.attributes is None:
        return {}
    found = attribute_scores(predictions, resamples=0)
    return {
        f"val_{name}": {score: one[score] for score in SCORES if one[score] is not None}
        for name, one in found.items()
    }


def one_modality_results(one: Predictions, both: Predictions, view: View) -> dict[str, Any]:
    """Metrics of a fusion that reads only `one` modality, and its WA minus that with `both`."""
    cost = paired_difference(one.labels, one.probabilities.argmax(1), both.probabilities.argmax(1))
    values, _ = validation_scores(one, view)
    return values | {"wa_to_both": cost["difference"], "se": cost["se"]}


def turn_predictions(predictions: Predictions, dataset: Dataset, view: View) -> TurnPredictions:
    """`predictions` with the names of turns, dialogues and classes, as files hold them."""
    return TurnPredictions(
        dataset.column("utterance")[predictions.rows].tolist(),
        dataset.column("dialogue")[predictions.rows].tolist(),
        predictions.labels,
        predictions.probabilities,
        list(view.label_set.classes),
        predictions.attributes,
    )


def confusion_table(part: dict[str, Any]) -> str:
    """The confusion matrix of a part in `metrics.json` in Markdown, and each class' recall."""
    names = part["labels"]
    lines = [
        f"| truth \\ predicted | {' | '.join(names)} | recall % |",
        "|---" * (len(names) + 2) + "|",
    ]
    for name, counts in zip(names, part["confusion"], strict=True):
        recall = 100 * part["classes"][name]["recall"]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {recall:.1f} |")
    return "\n".join(lines)
