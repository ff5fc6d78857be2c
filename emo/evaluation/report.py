"""Predictions in numbers and in files: what `metrics.json` holds of a part, and its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emo.evaluation import metrics
from emo.evaluation.agreement import agreement
from emo.evaluation.calibration import at_temperature
from emo.evaluation.outputs import Predictions
from emo.runs import files
from shards import atomic
from shards.store.index import Dataset
from shards.views.view import View


def scores(predictions: Predictions, view: View) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers that selection and TensorBoard look at, and each class' recall by its name.

    A collapse onto few classes shows in the recalls first.
    """
    full = metrics.evaluate(predictions.labels, predictions.probabilities, view.label_set.classes)
    values = {
        "loss": predictions.loss,
        "wa": full["wa"],
        "ua": full["ua"],
        "f1": full["weighted_f1"],
    }
    return values, {name: row["recall"] for name, row in full["classes"].items()}


def report(
    predictions: Predictions, view: View, dataset: Dataset, temperature: float
) -> dict[str, Any]:
    """Everything about one part for `metrics.json`, intervals by 10,000 bootstrap resamples.

    `predictions` are at `temperature`; `ece_before` is the calibration error without it, and
    `loss` the model's own, as in training's log.
    """
    classes = view.label_set.classes
    full = metrics.evaluate(predictions.labels, predictions.probabilities, classes)
    before = at_temperature(predictions.probabilities, 1 / temperature)
    full["ece_before"] = metrics.expected_calibration_error(predictions.labels, before)
    predicted = predictions.probabilities.argmax(1)
    full["interval_95"] = metrics.bootstrap(predictions.labels, predicted, len(classes))
    full["loss"] = predictions.loss
    full["skipped"] = predictions.skipped
    votes = dataset.table["votes"].take(predictions.rows).to_pylist()
    full["agreement"] = agreement(votes, predictions.probabilities, view.label_set)
    return full


def report_alone(left: Predictions, both: Predictions, view: View) -> dict[str, Any]:
    """Scores of a fusion where one modality is `left`, and what that costs against `both`."""
    truth, said = left.labels, left.probabilities.argmax(1)
    cost = metrics.paired_difference(truth, said, both.probabilities.argmax(1))
    values, _ = scores(left, view)
    return values | {"wa_to_both": cost["difference"], "se": cost["se"]}


def confusion_table(part: dict[str, Any]) -> str:
    """The confusion matrix of a part in `metrics.json` as Markdown, with each class' recall."""
    names = part["labels"]
    lines = [
        f"| truth \\ predicted | {' | '.join(names)} | recall % |",
        "|---" * (len(names) + 2) + "|",
    ]
    for name, counts in zip(names, part["confusion"], strict=True):
        recall = 100 * part["classes"][name]["recall"]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {recall:.1f} |")
    return "\n".join(lines)


def write_predictions(
    run: Path, part: str, predictions: Predictions, dataset: Dataset, view: View
) -> None:
    """One line an utterance: id, dialogue, true class, and a probability for each class."""
    names, dialogues = dataset.column("utterance"), dataset.column("dialogue")
    classes = view.label_set.classes
    lines = []
    for row, label, table in zip(
        predictions.rows, predictions.labels, predictions.probabilities, strict=True
    ):
        line = {
            "utterance": names[row],
            "dialogue": dialogues[row],
            "label": classes[label],
            "probabilities": {c: round(float(p), 9) for c, p in zip(classes, table, strict=True)},
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    atomic.write(files.predictions(run, part), ("\n".join(lines) + "\n").encode())


def read_predictions(run: Path, part: str) -> list[dict[str, Any]]:
    """The lines that `write_predictions` wrote."""
    return [json.loads(line) for line in files.predictions(run, part).read_text().splitlines()]
