"""Reading run folders: the record, the results, the best weights, and whether data is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emo import metrics
from emo.runs import files
from emo.runs.folder import RunError

if TYPE_CHECKING:
    from torch import Tensor

Facts = Mapping[str, Any]  # as in run.json, and again in metrics.json


def is_finished(run: Path) -> bool:
    """Whether training has ended and its result is evaluated."""
    return files.metrics(run).is_file()


def set_results_aside(run: Path) -> None:
    """Rename the results, if there are any: the run is no longer finished."""
    if is_finished(run):
        files.metrics(run).replace(run / files.EARLIER_METRICS)


def read_record(run: Path) -> dict[str, Any]:
    """`run.json`: what was trained, on which data, and how the model's input is made.

    Raises:
        RunError: `run` is no run folder.
    """
    path = run / files.RECORD
    if not path.is_file():
        raise RunError(_no_run(run) or f"{run} is no run folder: it has no {files.RECORD}")
    return dict(json.loads(path.read_text()))


def read_results(run: Path) -> dict[str, Any]:
    """`metrics.json`, under the present names of the metrics.

    A metric that was added after the run was evaluated is computed from the confusion matrix of
    each part, where that is enough; otherwise it is missing.

    Raises:
        RunError: `run` is no run folder, or training has not ended.
    """
    if not is_finished(run):
        raise RunError(
            _no_run(run) or f"{run} has no results: it is no run folder, or training has not ended"
        )
    results: dict[str, Any] = json.loads(files.metrics(run).read_text())
    for part in results["parts"].values():
        # What is stored wins over what is computed: it was published, to its last digit.
        part |= metrics.of_confusion(part["confusion"]) | part
        for one in part.get("alone", {}).values():
            for old, new in metrics.ALIASES.items():
                if old in one:
                    one[new] = one.pop(old)
    return results


def best_weights(run: Path) -> dict[str, Tensor]:
    """The fp32 weights of the checkpoint that validation chose, by name, on the CPU.

    Raises:
        CheckpointError: the run has not finished an epoch yet, or the checkpoint is damaged.
    """
    from emo.runs import checkpoint  # and torch, which comparing finished runs does not need

    return checkpoint.read_weights(checkpoint.best(files.checkpoints(run)))


def _no_run(folder: Path) -> str | None:
    """The error message if `folder` is that of a cross-validation, which is no run; else None."""
    folds = sorted(path.name for path in folder.glob("fold-*") if files.config(path).is_file())
    if not folds:
        return None
    return (
        f"{folder} is a cross-validation, not a run: `emo crossval` writes its scores to "
        f"{folder / files.CROSSVAL} when all folds are done, and `emo compare` puts several beside "
        f"one another; name one of its folds, such as {folder / folds[0]}"
    )


# --- "the same data?" -----------------------------------------------------------------------------

DATA: dict[str, Callable[[Facts], Any]] = {
    "corpus": lambda facts: facts["dataset"]["corpus"],
    "dataset": lambda facts: facts["dataset"]["hash"],
    "protocol": lambda facts: facts["protocol"],
    "classes": lambda facts: facts["classes"],
    "parts": lambda facts: facts["view"],  # a digest of the turns of train, val and test
}


class Difference(NamedTuple):
    """Where two runs' data differ: a key of `DATA`, and both values, shortened for messages."""

    what: str
    ours: str
    theirs: str


def data_difference(ours: Facts, theirs: Facts, what: Sequence[str]) -> Difference | None:
    """The first of the keys `what` of `DATA` in which two runs' data differ; None if in none."""
    for name in what:
        one, other = DATA[name](ours), DATA[name](theirs)
        if one != other:
            return Difference(name, _short(one), _short(other))
    return None


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and " " not in text
    return text[:12] if is_digest else text
