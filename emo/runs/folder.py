"""A run folder in use: one process writes to it at a time, and a resumed run must match it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emo.config import ExperimentConfig
from emo.data.config import weights_of
from emo.runs import files
from shards import atomic, configfile
from shards.configfile import ConfigError
from shards.errors import UserError

if TYPE_CHECKING:
    from emo.distributed.runtime import Runtime

# Settings that may change between launches of a run: how fast and how long, not what is learnt.
MAY_CHANGE = {
    "run", "resume", "runtime", "tracking", "watch", "data.shards", "data.workers", "data.damage",
    "data.max_skipped",
    "train.epochs", "train.patience", "train.global_batch", "train.accumulation",
    "train.evaluation_batch", "train.checkpoint_steps", "train.keep", "train.log_steps",
    "train.max_minutes",
}  # fmt: skip


class RunError(UserError):
    """A run folder that does not allow what was asked for."""


def load_config(run: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The resolved configuration of a run folder, with `overrides` ("key=value") over it.

    Raises:
        RunError: `run` is no run folder.
        ConfigError: an override is wrong.
    """
    path = files.config(run)
    if not path.is_file():
        raise RunError(f"{run} is no run folder: it has no {files.CONFIG}")
    return configfile.load(ExperimentConfig, path, [*overrides, f"run={json.dumps(str(run))}"])


@contextmanager
def open_run(runtime: Runtime, config: ExperimentConfig) -> Iterator[Path | None]:
    """Lock the run folder while in use; yields the checkpoint to resume from, None for a new run.

    Raises:
        RunError: another process writes there, or a run is there and `resume` is "never".
        ConfigError: the run that is there has other settings.
    """
    handle: int | None = None  # of the lock, on rank 0

    def enter() -> str | None:
        nonlocal handle
        with atomic.disk_errors(config.run):
            config.run.mkdir(parents=True, exist_ok=True)
        handle = lock(config.run)
        newest = _resumable(config)
        (config.run / files.EXIT).unlink(missing_ok=True)
        return newest.name if newest else None

    name = runtime.main_decides(enter)
    try:
        yield files.checkpoints(config.run) / name if name else None
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock a run folder that is there, for this process alone. Raises RunError as `lock` does."""
    handle = lock(run)
    try:
        yield
    finally:
        os.close(handle)


def lock(run: Path) -> int:
    """Lock the run folder for this process; returns the handle whose closing unlocks it.

    The kernel unlocks it when the process ends, in whatever way. The lock holds across the nodes of
    a cluster if the file system passes locks to its server: NFS, GPFS, CephFS, BeeGFS with
    tuneUseGlobalFileLocks, Lustre mounted with `flock`. Under Lustre's `localflock` a writer on
    another node goes unnoticed. A server may keep a dead node's locks for a while (NFSv4: 90 s by
    default); slurm/train.sbatch waits for that. Without any locks, a warning is printed.

    Raises:
        RunError: another process holds the lock.
    """
    # Not opened for writing anew ("w"): that would erase the holder's name, read below. The file is
    # never removed: another process could be locking it, and a third one then makes a second file.
    handle = os.open(run / files.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        raise RunError(
            f"{run} is being written by another process ({holder or 'unknown'}): wait for it, end "
            "it, or name another folder with run="
        ) from None
    except OSError as error:
        print(
            f"warning: {run} is on a file system without locks ({error.strerror}): make sure "
            "yourself that no second process writes there",
            flush=True,
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return handle


def in_use(run: Path) -> bool:
    """Whether a process holds the lock of the run folder; False where there are no locks."""
    try:
        handle = os.open(run / files.LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _resumable(config: ExperimentConfig) -> Path | None:
    folder = files.checkpoints(config.run)
    present = files.config(config.run).exists()
    if config.resume == "never":
        if present:
            raise RunError(
                f"{config.run} holds a run already: resume=auto goes on with it, run=FOLDER "
                "starts another one"
            )
        return None
    if present:
        check_unchanged(config)
    from emo.runs import checkpoint  # and torch, which reading a finished run does not need

    path, passed_over = checkpoint.newest(folder)
    for line in passed_over:
        print(line, flush=True)
    print(f"resuming from {path}" if path else "no checkpoint yet: from the start", flush=True)
    return path


def check_unchanged(config: ExperimentConfig) -> None:
    """Raise ConfigError if the run in `config.run` differs in settings not in `MAY_CHANGE`."""
    # Parsed as a configuration, not compared as YAML: a setting that was added to the program since
    # the run began then has its default on both sides.
    changed = configfile.differences(
        load_config(config.run).model_dump(mode="json"), config.model_dump(mode="json"), MAY_CHANGE
    )
    before, now = (weights_of(one.data.shards) for one in (load_config(config.run), config))
    if before != now:  # folders may move, but the weights decide what is learnt
        changed.append(f"data.shards: the weights were {before}, now {now}")
    if changed:
        raise ConfigError(
            f"{config.run} was started with other settings; a resumed run must keep them:\n  "
            + "\n  ".join(changed)
        )
