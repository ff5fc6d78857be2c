"""`emo crossval`: one experiment over all folds of its protocol, or over several random splits.

Every fold is a run of its own in `<run>/fold-<name>`, started by `launch/train.sh` and resumable;
finished folds are not done again. When all are there, `crossval.json` holds mean, standard
deviation, and the scores of all folds' predictions pooled.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emo import metrics
from emo.config import ExperimentConfig
from emo.distributed.launch_files import TRAIN
from emo.evaluation.uncertainty import bootstrap
from emo.runs import files
from emo.runs.predictions import read_lines
from shards import atomic, configfile
from shards.errors import UserError
from shards.store.index import open_dataset
from shards.views.view import COLUMNS
from shards.views.view import folds as folds_of

RESULT = "crossval.json"
SCORES = ("wa", "ua", "weighted_f1")


class CrossvalError(UserError):
    """Folds that cannot be run as asked."""


def crossval(
    path: Path, overrides: list[str], *, strategy: str, seeds: int | None, only: int | None
) -> int:
    """Run the folds that are not finished (or fold number `only`), then aggregate what is whole.

    `{fold}` in an override stands for the fold's name, as in `init.text=runs/text/fold-{fold}`.
    Returns the exit code of the first fold that did not finish (75: saved, run again), else 0.

    Raises:
        CrossvalError: the protocol has no folds and `seeds` is not given, or there is no `only`.
    """
    config = configfile.load(ExperimentConfig, path, [o.format(fold="x") for o in overrides])
    named = fold_settings(config, seeds)
    if only is not None and not 0 <= only < len(named):
        raise CrossvalError(f"fold={only}: the protocol has folds 0 to {len(named) - 1}")
    chosen = list(named) if only is None else [list(named)[only]]
    for name in chosen:
        run = config.run / f"fold-{name}"
        if files.metrics(run).is_file():
            print(f"fold {name}: trained already", flush=True)
            continue
        print(f"fold {name} of {len(named)}", flush=True)
        own = [o.format(fold=name) for o in overrides if not o.startswith(("run=", "resume="))]
        command = [str(TRAIN), strategy, str(path), *own, *named[name], f"run={run}", "resume=auto"]
        code = run_stoppable(command)
        if code:
            return code
    runs = [config.run / f"fold-{name}" for name in named]
    missing = [run.name for run in runs if not files.metrics(run).is_file()]
    if missing:
        print(f"still to do: {', '.join(missing)}")
        return 0
    result = aggregate(runs)
    atomic.write(config.run / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    show(result, config.name)
    return 0


def run_stoppable(command: list[str]) -> int:
    """Run `command`, hand it a SIGTERM that comes to this process, and return its exit code."""
    with subprocess.Popen(command) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def fold_settings(config: ExperimentConfig, seeds: int | None) -> dict[str, list[str]]:
    """The folds' names and the overrides that make each."""
    if seeds is not None:
        first = config.data.view.seed
        return {
            f"seed{seed}": [f"data.view.seed={seed}", f"train.seed={seed}"]
            for seed in range(first, first + seeds)
        }
    dataset = open_dataset(config.data.shards, columns=list(COLUMNS))
    names = folds_of(dataset.columns(*COLUMNS), config.data.view)
    if not names:
        raise CrossvalError(
            f"protocol {config.data.view.protocol} has no folds: use --seeds K, or "
            "data.view.protocol=leave_one_session_out or leave_one_speaker_out"
        )
    return {name: [f"data.view.fold={json.dumps(name)}"] for name in names}


def aggregate(runs: list[Path]) -> dict[str, Any]:
    """Scores over finished folds: each, mean and sample standard deviation, and pooled."""
    facts = [json.loads(files.metrics(run).read_text()) for run in runs]
    classes = facts[0]["classes"]
    folds = {
        run.name: {name: one["parts"]["test"][name] for name in (*SCORES, "n")}
        for run, one in zip(runs, facts, strict=True)
    }
    labels, tables = [], []
    for run in runs:
        for line in read_lines(run, "test"):
            labels.append(classes.index(line["label"]))
            tables.append([line["probabilities"][c] for c in classes])
    pooled = metrics.evaluate(labels, tables, classes)
    pooled["interval_95"] = bootstrap(labels, np.argmax(tables, 1), len(classes))
    scores = {name: np.array([fold[name] for fold in folds.values()]) for name in SCORES}
    return {
        "name": facts[0]["name"],
        "folds": folds,
        "mean": {name: float(x.mean()) for name, x in scores.items()},
        "sd": {name: float(x.std(ddof=1)) if len(x) > 1 else 0.0 for name, x in scores.items()},
        "pooled": pooled,
    }


def show(result: dict[str, Any], name: str) -> None:
    """Print the folds' table."""
    table = Table("fold", "test turns", "WA %", "UA %", "weighted F1 %", title=name)
    for fold, one in result["folds"].items():
        table.add_row(fold, str(one["n"]), *(f"{100 * one[s]:.1f}" for s in SCORES))
    table.add_section()
    mean, sd, pooled = result["mean"], result["sd"], result["pooled"]
    table.add_row("mean ± sd", "", *(f"{100 * mean[s]:.1f} ± {100 * sd[s]:.1f}" for s in SCORES))
    table.add_row("pooled", str(pooled["n"]), *(f"{100 * pooled[s]:.1f}" for s in SCORES))
    Console().print(table)
