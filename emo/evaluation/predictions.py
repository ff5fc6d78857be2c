"""The file `predictions-PART.jsonl` of a run: what its model predicts for each turn of a part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emo.runs import files
from shards import atomic

EVALUATED_PARTS = ("val", "test")


@dataclass(frozen=True)
class TurnPredictions:
    """Predictions of N turns for C classes."""

    utterances: list[str]
    dialogues: list[str]
    labels: np.ndarray  # int [N], numbers in `classes`
    probabilities: np.ndarray  # float64 [N, C]
    classes: list[str]
    # By name, what is predicted and what is true, float64 [N] both; NaN where a turn lacks it.
    attributes: dict[str, tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class, int [N]."""
        return self.probabilities.argmax(1)


def write_predictions(run: Path, part: str, turns: TurnPredictions) -> None:
    """Write one line a turn: its id, dialogue and true class, and a probability for each class."""
    lines = []
    rows = zip(turns.utterances, turns.dialogues, turns.labels, turns.probabilities, strict=True)
    for number, (utterance, dialogue, label, table) in enumerate(rows):
        named = zip(turns.classes, table, strict=True)
        line = {
            "utterance": utterance,
            "dialogue": dialogue,
            "label": turns.classes[label],
            "probabilities": {name: round(float(p), 9) for name, p in named},
        }
        if turns.attributes is not None:
            line["attributes"] = {
                name: {"predicted": _number(predicted[number]), "true": _number(true[number])}
                for name, (predicted, true) in turns.attributes.items()
            }
        lines.append(json.dumps(line, ensure_ascii=False))
    atomic.write(files.predictions(run, part), ("\n".join(lines) + "\n").encode())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 9)


def read_lines(run: Path, part: str) -> list[dict[str, Any]]:
    """The lines that `write_predictions` wrote, in the order of the file."""
    return [json.loads(line) for line in files.predictions(run, part).read_text().splitlines()]


def read_predictions(run: Path, part: str, classes: list[str]) -> TurnPredictions:
    """The predictions as arrays over `classes`, sorted by the utterances' ids."""
    lines = sorted(read_lines(run, part), key=lambda line: line["utterance"])
    return TurnPredictions(
        [line["utterance"] for line in lines],
        [line["dialogue"] for line in lines],
        np.array([classes.index(line["label"]) for line in lines]),
        np.array([[line["probabilities"][name] for name in classes] for line in lines]),
        classes,
        _attributes_of(lines),
    )


def _attributes_of(
    lines: list[dict[str, Any]],
) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    if not lines or "attributes" not in lines[0]:
        return None

    def column(name: str, what: str) -> np.ndarray:
        return np.array([line["attributes"][name][what] for line in lines], float)  # None is NaN

    return {
        name: (column(name, "predicted"), column(name, "true")) for name in lines[0]["attributes"]
    }
