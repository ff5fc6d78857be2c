"""`emo crossval`: one experiment over all folds of its protocol, or over several random splits.

Every fold is a run of its own in `<run>/fold-<name>`, started by `launch/train.sh` and resumable;
finished folds are not repeated. When all are finished, `crossval.json` holds the mean and standard
deviation over the folds, and the scores of their pooled predictions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emo import metrics
from emo.config import ExperimentConfig
from emo.data.corpora.union import open_data
from emo.data.dialogues import source_hash, vector_facts
from emo.distributed.launch_files import run_training
from emo.evaluation.predictions import read_predictions
from emo.evaluation.uncertainty import bootstrap
from emo.runs import files
from emo.runs.finished import is_finished, read_record, read_results
from emo.runs.folder import check_unchanged, load_config
from shards import atomic, configfile
from shards.errors import UserError
from shards.views.view import COLUMNS, columns_of
from shards.views.view import folds as folds_of

AVERAGED = {name: one for name, one in metrics.METRICS.items() if one.cross_validated}


class CrossvalError(UserError):
    """Folds that do not exist or do not belong together, or a protocol without folds."""


def crossval(
    path: Path, overrides: list[str], *, strategy: str, seeds: int | None, only: int | None
) -> int:
    """Run the unfinished folds, or only fold number `only`; aggregate once all are finished.

    `{fold}` in an override stands for the fold's name, as in `init.text=runs/text/fold-{fold}`.
    Returns the exit code of the first fold that did not finish (75: saved, run again), else 0.

    Raises:
        CrossvalError: the protocol has no folds and `seeds` is not given, no fold has the number
            `only`, or the folder holds folds with other settings or data.
    """
    # Any name will do for the fold: this configuration only tells which folds there are.
    config = configfile.load(ExperimentConfig, path, _of_fold(overrides, "x"))
    named = fold_settings(config, seeds)
    if only is not None and not 0 <= only < len(named):
        raise CrossvalError(f"fold={only}: the protocol has folds 0 to {len(named) - 1}")
    chosen = list(named) if only is None else [list(named)[only]]
    settings = {}
    for name, more in named.items():
        own = [o for o in _of_fold(overrides, name) if not o.startswith(("run=", "resume="))]
        run = json.dumps(str(config.run / f"fold-{name}"))
        settings[name] = [*own, *more, f"run={run}", "resume=auto"]
    folds = {
        name: configfile.load(ExperimentConfig, path, its_own) for name, its_own in settings.items()
    }
    for fold in folds.values():  # all before the first is trained: the table is of one experiment
        check_same_experiment(fold)
    for name in chosen:
        if is_finished(folds[name].run):
            print(f"fold {name}: trained already", flush=True)
            continue
        print(f"fold {name} of {len(named)}", flush=True)
        code = run_training(strategy, path, settings[name])
        if code:
            return code
    runs = [config.run / f"fold-{name}" for name in named]
    missing = [fold.run.name for fold in folds.values() if not is_finished(fold.run)]
    if missing:
        print(f"still to do: {', '.join(missing)}")
        return 0
    result = aggregate(runs)
    atomic.write(config.run / files.CROSSVAL, (json.dumps(result, indent=1) + "\n").encode())
    show(result, config.name)
    return 0


def check_same_experiment(fold: ExperimentConfig) -> None:
    """Raise where the run that `fold.run` holds, finished or not, is not what `fold` asks for.

    A resumed training may have another batch and more epochs. A finished fold is not trained again,
    so its scores would be those of the old settings without a word.

    Raises:
        ConfigError: it was trained with other settings; lists them.
        CrossvalError: it is finished, and had another batch, other epochs or other data.
    """
    if not files.config(fold.run).is_file():
        return
    check_unchanged(fold)
    if not is_finished(fold.run):
        return
    before, now = load_config(fold.run), fold
    changed = [
        f"{name}: was {old}, now {new}"
        for name, old, new in (
            ("train.epochs", before.train.epochs, now.train.epochs),
            ("train.global_batch", before.train.global_batch, now.train.global_batch),
        )
        if old != new
    ]
    record, dataset = read_record(fold.run), open_data(fold.data.shards)
    trained_on, here = record["dataset"]["hash"], source_hash(dataset)
    vectors = (record.get("context") or {}).get("vectors", {})
    if here != trained_on:
        changed.append(f"data.shards: was dataset {trained_on[:12]}, now {here[:12]}")
    elif vectors != vector_facts(dataset):
        changed.append(f"data.shards: the vectors in {dataset.folder} are of other branches")
    if changed:
        raise CrossvalError(
            f"{fold.run} was trained with other settings; run=FOLDER starts another "
            "cross-validation:\n  " + "\n  ".join(changed)
        )


def _of_fold(overrides: list[str], name: str) -> list[str]:
    """`overrides` of the fold `name`. Not `str.format`: a YAML mapping has braces as well."""
    return [override.replace("{fold}", name) for override in overrides]


def fold_settings(config: ExperimentConfig, seeds: int | None) -> dict[str, list[str]]:
    """By the name of each fold, the overrides that select it."""
    if seeds is not None:
        first = config.data.view.seed
        return {
            f"seed{seed}": [f"data.view.seed={seed}", f"train.seed={seed}"]
            for seed in range(first, first + seeds)
        }
    dataset = open_data(config.data.shards, columns=COLUMNS)
    names = folds_of(columns_of(dataset), config.data.view)
    if not names:
        raise CrossvalError(
            f"protocol {config.data.view.protocol} has no folds: use --seeds K, or "
            "data.view.protocol=leave_one_session_out, leave_one_speaker_out or speaker_folds"
        )
    return {name: [f"data.view.fold={json.dumps(name)}"] for name in names}


def aggregate(runs: list[Path]) -> dict[str, Any]:
    """Test metrics of each fold, their mean and sample deviation, and those of all turns pooled.

    A metric that was added to the program after a fold was evaluated is computed from the fold's
    predictions.
    """
    facts = [read_results(run) for run in runs]
    classes = facts[0]["classes"]
    turns = [read_predictions(run, "test", classes) for run in runs]
    folds = {}
    for run, one, predictions in zip(runs, facts, turns, strict=True):
        computed = metrics.evaluate(predictions.labels, predictions.probabilities, classes)
        scores = computed | one["parts"]["test"]  # what is stored wins
        folds[run.name] = {name: scores[name] for name in (*AVERAGED, "n")}
    labels = np.concatenate([one.labels for one in turns])
    probabilities = np.concatenate([one.probabilities for one in turns])
    pooled = metrics.evaluate(labels, probabilities, classes)
    pooled["interval_95"] = bootstrap(labels, probabilities.argmax(1), len(classes))
    values = {name: np.array([fold[name] for fold in folds.values()]) for name in AVERAGED}
    return {
        "name": facts[0]["name"],
        "folds": folds,
        "mean": {name: float(x.mean()) for name, x in values.items()},
        "sd": {name: float(x.std(ddof=1)) if len(x) > 1 else 0.0 for name, x in values.items()},
        "pooled": pooled,
    }


def show(result: dict[str, Any], name: str) -> None:
    """Print the folds' table."""
    table = Table("fold", "test turns", *(one.heading for one in AVERAGED.values()), title=name)

    def cells(values: Mapping[str, float]) -> list[str]:
        return [metric.show(values[metric.name]) for metric in AVERAGED.values()]

    for fold, one in result["folds"].items():
        table.add_row(fold, str(one["n"]), *cells(one))
    table.add_section()
    pairs = zip(cells(result["mean"]), cells(result["sd"]), strict=True)
    table.add_row("mean ± sd", "", *(f"{mean} ± {sd}" for mean, sd in pairs))
    table.add_row("pooled", str(result["pooled"]["n"]), *cells(result["pooled"]))
    Console().print(table)
