"""The names of all files in a run folder."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.yaml"  # the resolved configuration, every default spelled out
COMMAND = "command.sh"  # the one command that reproduces the run
RECORD = "run.json"  # code commit, versions, machine, dataset hash, view
LOG = "log.jsonl"  # one line for each logged step, and for each validation
OLD_TENSORBOARD = "tensorboard"  # of TensorBoard's event files in runs of earlier versions
CHECKPOINTS = "checkpoints"
TOKENIZER = "tokenizer"  # a copy of the dataset's
STATISTICS = "statistics.json"  # mean and standard deviation per feature bin
METRICS = "metrics.json"  # the result: every metric of validation and test
EARLIER_METRICS = "metrics-before.json"  # what was METRICS when a finished run trained further
BAD_STEP = "bad-step.json"  # the step that ended the run because it was not finite
EXIT = "exit.json"  # how the last launch ended: exit code and reason
LOCK = "lock"  # locked while a launch writes here

ELSEWHERE = "on"  # a folder for each other dataset that the run was evaluated on
CROSSVAL = "crossval.json"  # in the folder of a cross-validation, beside the runs of its folds


def predictions(run: Path, part: str) -> Path:
    """One JSON line an utterance of `part` ("val" or "test")."""
    return run / f"predictions-{part}.jsonl"


def config(run: Path) -> Path:
    return run / CONFIG


def metrics(run: Path) -> Path:
    return run / METRICS


def checkpoints(run: Path) -> Path:
    return run / CHECKPOINTS
