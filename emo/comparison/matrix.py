"""`emo compare --matrix`: runs by the datasets that they were evaluated on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from emo.metrics import METRICS
from emo.runs import files
from emo.runs.finished import read_results
from shards import atomic

OWN = "own test part"


def matrix(runs: Sequence[Path], metric: str, markdown: Path | None = None) -> None:
    """Print `metric` of every run on its own test part and on each dataset of `emo eval --on`.

    Raises:
        RunError: a run is not finished.
    """
    found = {run: scores_of(run) for run in runs}
    columns = list(dict.fromkeys(name for scores in found.values() for name in scores))
    heads = ["trained run", *columns]
    body = [
        [str(run), *(_cell(scores.get(name), metric) for name in columns)]
        for run, scores in found.items()
    ]
    title = f"{METRICS[metric].heading} [95 % interval], turns"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head)
    for line in body:
        table.add_row(*line)
    Console(width=None if Console().is_terminal else 140).print(table)
    note = (
        "Turns with a label that a model does not know are not counted for it. ~: probabilities "
        "corrected to other class shares (--prior)."
    )
    print(note)
    if markdown is not None:
        lines = [f"**{title}**", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        lines += ["| " + " | ".join(line) + " |" for line in body]
        atomic.write(markdown, ("\n".join([*lines, "", note]) + "\n").encode())


def scores_of(run: Path) -> dict[str, dict[str, Any]]:
    """By the name of a dataset, the results of `run` on it."""
    found = {OWN: {**read_results(run)["parts"]["test"], "prior": "trained"}}
    for path in sorted((run / files.ELSEWHERE).glob(f"*/{files.METRICS}")):
        results = json.loads(path.read_text())
        found[path.parent.name] = {**results["parts"]["test"], "prior": results["prior"]}
    return found


def _cell(scores: dict[str, Any] | None, metric: str) -> str:
    if scores is None:
        return "–"
    shown, scale = METRICS[metric].show(scores[metric]), METRICS[metric].scale
    low, high = (scale * value for value in scores["interval_95"][metric])
    mark = "" if scores["prior"] == "trained" else " ~"
    return f"{shown} [{low:.1f}, {high:.1f}], {scores['n']}{mark}"
