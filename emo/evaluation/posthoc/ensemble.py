"""`emo ensemble`: several finished runs as one model, evaluated as any run.

Their predictions are read from their folders; nothing is trained but a stacked head, which is
fitted on the validation part. The result is a folder with `metrics.json` and predictions, which
`emo compare` takes like a run's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emo import metrics
from emo.evaluation.posthoc.calibration import at_temperature, fit_temperature
from emo.evaluation.predictions import (
    EVALUATED_PARTS,
    TurnPredictions,
    read_predictions,
    write_predictions,
)
from emo.evaluation.uncertainty import bootstrap
from emo.runs import files
from emo.runs.finished import data_difference, read_record, read_results
from shards import atomic
from shards.errors import UserError

PENALTY = 1e-2  # on the squared weights of a stacked head, a turn
MEMBERS = "ensemble"  # in run.json: the runs, and how they are joined

# From the members' probabilities, float64 [M, N, C] of a part and [M, V, C] of validation, and the
# validation's labels, int [V], to probabilities [N, C].
Join = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class EnsembleError(UserError):
    """Runs that cannot be joined."""


def mean_of_probabilities(part: np.ndarray, val: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Their arithmetic mean."""
    return part.mean(axis=0)


def mean_of_logits(part: np.ndarray, val: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Their geometric mean, scaled to sum to 1: the softmax of the mean of the scores."""
    return at_temperature(np.exp(_log(part).mean(axis=0)), 1.0)


def stacked(part: np.ndarray, val: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logistic regression over the members' log-probabilities, fitted on validation."""
    from sklearn.linear_model import LogisticRegression

    def table(given: np.ndarray) -> np.ndarray:
        return _log(given).transpose(1, 0, 2).reshape(given.shape[1], -1)

    model = LogisticRegression(C=1 / (PENALTY * len(labels)), max_iter=2000)
    model.fit(table(val), labels)
    result = np.full((part.shape[1], part.shape[2]), 1e-12)  # classes that validation lacks
    result[:, model.classes_] = model.predict_proba(table(part))
    return result / result.sum(axis=1, keepdims=True)


JOINS: dict[str, Join] = {
    "probabilities": mean_of_probabilities,
    "logits": mean_of_logits,
    "stacked": stacked,
}


def ensemble(runs: Sequence[Path], folder: Path, how: str) -> dict[str, Any]:
    """Join the predictions of finished `runs` by `how` (of `JOINS`), and write the result.

    Returns the content of the new folder's `metrics.json`.

    Raises:
        EnsembleError: fewer than two runs, or the folder exists.
        RunError: a run is not finished, or was tested on other turns.
    """
    if len(runs) < 2:
        raise EnsembleError("an ensemble needs at least two runs")
    if folder.exists():
        raise EnsembleError(f"{folder} is there already: name a new folder")
    results, records = [read_results(run) for run in runs], [read_record(run) for run in runs]
    for run, other in zip(runs[1:], results[1:], strict=True):
        different = data_difference(results[0], other, ("classes", "parts"))
        if different is not None:
            raise EnsembleError(
                f"{run} and {runs[0]} are of different {different.what}: {different.theirs}, "
                f"{different.ours}. Only runs of one split can be joined"
            )
    classes = results[0]["classes"]
    turns = {
        part: [read_predictions(run, part, classes) for run in runs] for part in EVALUATED_PARTS
    }
    for part, every in turns.items():
        if any(one.utterances != every[0].utterances for one in every):
            raise EnsembleError(f"these runs have predictions for other turns of {part}: a damaged "
                                "sample was skipped; run emo eval on each")  # fmt: skip
    tables = {part: np.stack([one.probabilities for one in every]) for part, every in turns.items()}
    labels = turns["val"][0].labels
    join = JOINS[how]
    temperature = fit_temperature(labels, join(tables["val"], tables["val"], labels))
    folder.mkdir(parents=True)
    parts = {}
    for part, every in turns.items():
        before = join(tables[part], tables["val"], labels)
        joined = at_temperature(before, temperature)
        first = every[0]
        found = TurnPredictions(first.utterances, first.dialogues, first.labels, joined, classes)
        write_predictions(folder, part, found)
        full = metrics.evaluate(first.labels, joined, classes)
        full["ece_before"] = metrics.expected_calibration_error(first.labels, before)
        full["interval_95"] = bootstrap(first.labels, joined.argmax(1), len(classes))
        full["loss"] = float(-_log(joined)[np.arange(len(joined)), first.labels].mean())
        # The annotators are those of every member; what the votes say of the joined predictions is
        # in the shards, which are not read here.
        shared = results[0]["parts"][part]
        full |= {key: shared[key] for key in ("skipped", "agreement") if key in shared}
        full["agreement"] = full.get("agreement", {}) | {"jensen_shannon": None}
        parts[part] = full
    facts = {key: value for key, value in results[0].items() if key not in ("parts", "checkpoint")}
    facts |= {
        "name": f"{how} of {len(runs)}",
        "parameters": sum(one["parameters"] for one in results),
        "temperature": temperature,
        MEMBERS: {"how": how, "runs": [str(run) for run in runs]},
        "parts": parts,
    }
    record = {key: value for key, value in records[0].items() if key not in ("recipe", "loss")}
    record |= {key: facts[key] for key in ("name", "parameters", MEMBERS)}
    atomic.write(folder / files.RECORD, (json.dumps(record, indent=1) + "\n").encode())
    atomic.write(files.metrics(folder), (json.dumps(facts, indent=1) + "\n").encode())
    return facts


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, 1e-12))
