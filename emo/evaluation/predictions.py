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

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class, int [N]."""
        return self.probabilities.argmax(1)


def write_predictions(run: Path, part: str, turns: TurnPredictions) -> None:
    """Write one line a turn: its id, dialogue and true class, and a probability for each class."""
    lines = []
    for utterance, dialogue, label, table in zip(
        turns.utterances, turns.dialogues, turns.labels, turns.probabilities, strict=True
    ):
        named = zip(turns.classes, table, strict=True)
        line = {
            "utterance": utterance,
            "dialogue": dialogue,
            "label": turns.classes[label],
            "probabilities": {name: round(float(p), 9) for name, p in named},
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    atomic.write(files.predictions(run, part), ("\n".join(lines) + "\n").encode())


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
    )
