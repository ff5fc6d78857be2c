"""Checkpoints: complete or absent, verified before use, pruned only after the next one is safe.

`checkpoints/step-00000120/` holds `weights.safetensors`, `moments.safetensors`, one `rng-R.pt` for
each rank, `state.json`, and `manifest.json` with the size and SHA-256 of each file, written last.
Under `train.average` there is also `average.safetensors`, the weights to evaluate. The folder is
filled as `step-00000120.tmp` and renamed. `checkpoints/best.json` names the step that validation
chose. No file is loaded by an unrestricted unpickler. A damaged checkpoint is renamed to
`step-00000120.damaged`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emo.data.plan import DataState
from emo.distributed.collectives import lost_ranks_named
from emo.runs import random_state
from emo.runs.random_state import CheckpointError
from shards import atomic
from shards.errors import UserError

if TYPE_CHECKING:
    from emo.distributed.runtime import Runtime

# `emo.distributed.state`, and torch's sharded tensors with it, is imported where ranks exchange
# state: whoever only reads weights, such as `emo predict`, would wait a second for nothing.

WEIGHTS = "weights.safetensors"
AVERAGE = "average.safetensors"  # the weights to evaluate, where they are averaged
MOMENTS = "moments.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
BEST = "best.json"
DAMAGED = ".damaged"
FOLDER = re.compile(r"step-(\d{8})$")


@dataclass(frozen=True)
class Progress:
    """All resumable state that is neither tensor nor random generator.

    `step` counts optimizer steps taken. `best` is the best validation score so far (None before the
    first validation), `best_step` its step, and `best_loss` its validation loss, which decides
    between equal scores. `skipped` counts damaged samples, and `bad_steps` the steps that were left
    out because loss or gradient was not finite. `validated` counts the epochs whose validation is
    done. `trace` is the sum of `emo.data.steps.trace_of` over the units used so far in this epoch.
    `stale` counts the validations since the best one. `rate` is the factor that the schedule newbob
    has put on the learning rate, and `last_loss` the validation loss that it compares with.
    """

    step: int
    data: DataState
    validated: int = 0
    trace: int = 0
    best: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    skipped: int = 0
    bad_steps: int = 0
    loss_scale: dict[str, float] | None = None  # fp16's
    stale: int = 0
    rate: float = 1.0
    last_loss: float | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Progress:
        raw = json.loads(text)
        return cls(**raw | {"data": DataState.from_dict(raw["data"])})


@lost_ranks_named()
def snapshot(
    runtime: Runtime,
    folder: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    keep: int,
) -> Callable[[], None]:
    """Copy the state after `progress.step` steps; a collective.

    Args:
        keep: how many of the newest checkpoints to keep, besides the best.

    Returns:
        What is left to do, on rank 0 only (elsewhere it does nothing): to write the copy, commit
        it, and remove older checkpoints. It needs no other rank, so training may go on meanwhile.
        It raises DiskFull or CannotWrite; earlier checkpoints are untouched then.

    Raises:
        shards.atomic.DiskFull, CannotWrite: on every rank; likewise.
    """
    from emo.distributed import state

    final = folder / f"step-{progress.step:08d}"
    draft = final.with_name(final.name + ".tmp")
    if runtime.main_decides(lambda: final.is_dir() and _damage(final) is None):
        return _nothing  # this very step was saved already, at the end of an epoch for instance
    progress = replace(progress, loss_scale=state.loss_scale(runtime.scaler(optimizer)))
    weights = state.gather_weights(runtime, model)
    moments = state.gather_moments(runtime, model, optimizer)
    ending = f"/{state.AVERAGE}"
    average = {
        name.removesuffix(ending): moments.pop(name) for name in list(moments) if ending in name
    }

    def begin() -> None:
        with atomic.disk_errors(draft):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)

    def write_ours() -> None:
        with atomic.disk_errors(draft):
            random_state.write(draft / f"rng-{runtime.rank}.pt", runtime.device)

    def write_the_rest() -> None:
        try:
            with atomic.disk_errors(draft):
                write_tensors(draft / WEIGHTS, weights)
                write_tensors(draft / MOMENTS, moments)
                if average:
                    write_tensors(draft / AVERAGE, weights | average)
                (draft / STATE).write_text(progress.to_json())
                _commit(draft, final, {"step": progress.step, "world": runtime.world,
                                       "strategy": runtime.config.strategy})  # fmt: skip
            # Only after the rename are older checkpoints removed.
            _name_best(folder, progress)
            _prune(folder, keep)
        except UserError:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    # Each line is a collective: no rank goes on before all have finished it, and an error on one
    # rank is raised on all. So every rank's random state is in the draft before rank 0 seals it.
    try:
        runtime.main_decides(begin)
        runtime.together(write_ours)
    except UserError:
        if runtime.main:
            shutil.rmtree(draft, ignore_errors=True)
        raise
    return write_the_rest if runtime.main else _nothing


def _nothing() -> None:
    """What is left to do where nothing is."""


def _commit(draft: Path, final: Path, facts: dict[str, Any]) -> None:
    """Seal the draft with a manifest, and give it its name when all of it is on the disk."""
    files = {path.name: _fingerprint(path) for path in sorted(draft.iterdir())}
    manifest = facts | {"files": files}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if final.exists():
        shutil.rmtree(final)  # it is damaged, or there would be no draft
    # The files, then their names in the folder, then the rename: after a power failure a folder
    # with the final name must have all of its content.
    for path in draft.iterdir():
        atomic.sync_file(path)
    atomic.sync_folder(draft)
    atomic.commit(draft, final)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint (None if there is none), and a message on each damaged one.

    Damaged ones are renamed: otherwise they would count among the newest ones when others are
    pruned.
    """
    passed_over: list[str] = []
    for path in reversed(_committed(folder)):
        damage = _damage(path)
        if damage is None:
            return path, passed_over
        aside = path.with_name(path.name + DAMAGED)
        with atomic.disk_errors(aside):
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        passed_over.append(
            f"checkpoint {path.name} is damaged ({damage}): passed over, now {aside.name}"
        )
    return None, passed_over


def best(folder: Path) -> Path:
    """The checkpoint that validation chose.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        step = int(json.loads((folder / BEST).read_text())["step"])
    except (OSError, ValueError, KeyError):
        raise CheckpointError(
            f"{folder} has no best checkpoint: the run has not finished an epoch yet"
        ) from None
    path = folder / f"step-{step:08d}"
    damage = _damage(path)
    if damage is not None:
        raise CheckpointError(f"the best checkpoint {path} is damaged: {damage}; train again")
    return path


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Full fp32 weights by name, on the CPU: the averaged ones, where training averaged them."""
    average = checkpoint / AVERAGE
    return load_file(average if average.is_file() else checkpoint / WEIGHTS)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk cannot be written. safetensors wraps this into an error of its own.
    """
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        # safetensors makes files that only their owner may read; take the folder's permissions.
        path.chmod(path.parent.stat().st_mode & 0o666)
    except SafetensorError as error:
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
        raise


@lost_ranks_named()
def restore(
    runtime: Runtime,
    checkpoint: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> Progress:
    """Load a verified checkpoint into model, optimizer and this rank's generators; a collective.

    With the same number of ranks as when it was written, every rank's random state is restored bit
    for bit; with another number it is derived from (seed, step, rank).

    Raises:
        CheckpointError: the random state of a rank is missing or holds more than tensors and
            numbers, or the weights do not fit the model.
    """
    from emo.distributed import state

    manifest = json.loads((checkpoint / MANIFEST).read_text())
    progress = Progress.from_json((checkpoint / STATE).read_text())
    weights = load_file(checkpoint / WEIGHTS)
    moments = load_file(checkpoint / MOMENTS)
    if (checkpoint / AVERAGE).is_file():
        trained = [name.removesuffix("/step") for name in moments if name.endswith("/step")]
        average = load_file(checkpoint / AVERAGE)
        moments |= {f"{name}/{state.AVERAGE}": average[name] for name in trained}
    expected = set(state.bare(model).state_dict())
    if set(weights) != expected:
        missing, extra = sorted(expected - set(weights)), sorted(set(weights) - expected)
        raise CheckpointError(
            f"{checkpoint} does not fit the model: missing {missing[:5]}, unknown {extra[:5]}"
        )
    state.scatter_weights(runtime, model, weights)
    state.scatter_moments(runtime, model, optimizer, moments)
    state.set_loss_scale(runtime.scaler(optimizer), progress.loss_scale)
    if manifest["world"] == runtime.world:
        random_state.restore(checkpoint / f"rng-{runtime.rank}.pt", runtime.device)
    else:
        random_state.seed_rank(seed, progress.step, runtime.rank)
    # Rank 0 reads the best checkpoint to its end; the others take its word for it.
    whole = runtime.main_decides(lambda: _confirm_best(checkpoint.parent, progress))
    return progress if whole else replace(progress, best=None, best_loss=None, best_step=0)


def _committed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if FOLDER.match(path.name))


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None if it is intact."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return "its manifest cannot be read"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if _fingerprint(path) != expected:
            return f"{name} has changed since it was written"
    return None


def _name_best(folder: Path, progress: Progress) -> None:
    """Record which step to evaluate, predict with and export."""
    if progress.best is not None:
        text = json.dumps({"step": progress.best_step, "score": progress.best})
        atomic.write(folder / BEST, text.encode())


def _confirm_best(folder: Path, progress: Progress) -> bool:
    """Make `best.json` agree with the resumed state; False if the best checkpoint is damaged."""
    if progress.best is None:
        return True
    if _damage(folder / f"step-{progress.best_step:08d}") is not None:
        return False
    _name_best(folder, progress)
    return True


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best, and drafts of killed saves."""
    try:
        best_step = json.loads((folder / BEST).read_text())["step"]
    except (OSError, ValueError, KeyError):
        best_step = None
    for path in _committed(folder)[:-keep]:
        match = FOLDER.match(path.name)
        if match and int(match[1]) != best_step:
            shutil.rmtree(path)
    for path in folder.glob("step-*.tmp"):
        shutil.rmtree(path)
