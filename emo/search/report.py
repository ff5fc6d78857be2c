"""What a sweep leaves: a table, a file with all trials, TensorBoard's view of hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from emo.config import ExperimentConfig
from emo.metrics import METRICS
from emo.search.space import SpaceConfig
from shards import atomic

RESULT, MARKDOWN, TENSORBOARD = "sweep.json", "sweep.md", "tensorboard"
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def write_report(config: ExperimentConfig, space: SpaceConfig, trials: Sequence[Any]) -> None:
    """Write `sweep.json`, `sweep.md` and TensorBoard's files, and print the table.

    The same trials give the same files: nothing in them depends on when or where trials ran.
    """
    keys, metric = list(space.space), METRICS[config.train.select]
    sign = 1 if metric.higher_is_better else -1
    complete = [one for one in trials if WORDS.get(one.state.name) == "complete"]
    best = max(complete, key=lambda one: (one.value, -one.number), default=None)
    rows = [
        {
            "trial": one.number,
            "state": WORDS.get(one.state.name, one.state.name.lower()),
            "value": None if one.value is None else sign * one.value,
            "epochs": len(one.intermediate_values),
            "settings": {key: _plain(one.params.get(key)) for key in keys},
        }
        for one in trials
    ]
    result = {
        "name": config.name,
        "select": config.train.select,
        "best": None if best is None else best.number,
        "trials": rows,
    }
    atomic.write(config.run / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    heads = ["trial", "state", f"validation {metric.heading}", "epochs", *keys]

    # The best first; those that were stopped or failed after those that were not.
    def rank(row: dict[str, Any]) -> tuple[bool, float, int]:
        return row["state"] != "complete", -sign * (row["value"] or 0.0), row["trial"]

    order = sorted(rows, key=rank)
    cells = [
        [
            str(row["trial"]), row["state"], metric.show(row["value"]), str(row["epochs"]),
            *(_short(row["settings"][key]) for key in keys),
        ]
        for row in order
    ]  # fmt: skip
    lines = [heads, ["---"] * len(heads), *cells]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    atomic.write(config.run / MARKDOWN, text.encode())
    table = Table(*heads, title=f"{config.name}: {len(rows)} trials")
    for line in cells:
        table.add_row(*line)
    console = Console()
    console.print(table)
    if best is not None:
        console.print(f"best: trial {best.number}, run {config.run / f'trial-{best.number:04d}'}")
    _tensorboard(config, rows, f"validation/{config.train.select}")


def _tensorboard(config: ExperimentConfig, rows: list[dict[str, Any]], tag: str) -> None:
    """One entry a trial in the view HPARAMS."""
    from torch.utils.tensorboard import SummaryWriter

    folder = config.run / TENSORBOARD
    for row in rows:
        name = f"trial-{row['trial']:04d}"
        if row["value"] is None or (folder / name).is_dir():
            continue
        # It knows numbers, texts and truth values alone.
        settings = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in row["settings"].items()
        }
        with SummaryWriter(str(folder)) as writer:
            writer.add_hparams(settings, {tag: row["value"]}, run_name=name)


def _plain(value: Any) -> Any:
    """A value as it was in the space; choices are stored as JSON."""
    if not isinstance(value, str):
        return value
    return json.loads(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value).strip('"')
