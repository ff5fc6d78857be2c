"""`emo sweep`: train trials of a space, stop the hopeless ones, and show all in one table."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from emo.config import ExperimentConfig
from emo.distributed.launch_files import EXIT_SAVED, TRAIN
from emo.metrics import selection_score
from emo.runs import checkpoint, files
from emo.runs.finished import is_finished
from emo.search.report import write_report
from emo.search.space import SpaceConfig, check, setting
from emo.search.study import Claimed, Study, sweep_digest
from shards import configfile
from shards.processes import die_with_parent

POLL_SECONDS = 0.2
LEFT_BEHIND_SECONDS = 300  # a save may take minutes


def sweep(
    path: Path, space_path: Path, overrides: Sequence[str], *, strategy: str, jobs: int
) -> int:
    """Train the trials of `space_path` that are left; returns the exit code.

    Any number of processes may do this at once, on any nodes that share the run folder; each takes
    the next trial that nobody works on. With `jobs` above 1 this process starts so many, each with
    its part of the node's GPUs.

    Returns 75 if it was asked to stop (run again to go on), 1 if every trial failed, else 0.

    Raises:
        ConfigError: the configuration or the space is wrong, or a value of the space cannot be.
        SweepError: the folder holds another sweep.
    """
    own = [one for one in overrides if not one.startswith("resume=")]
    config = configfile.load(ExperimentConfig, path, own)
    space = configfile.load(SpaceConfig, space_path)
    check(path, own, space)
    study = Study(config.run, space, sweep_digest(config, space))
    if jobs > 1:
        code = in_parallel(path, space_path, overrides, strategy, jobs)
    else:
        code = work(study, path, own, strategy)
    if code == EXIT_SAVED:
        return code
    trials = study.trials()
    if any(not one.state.is_finished() for one in trials):
        print("other processes still work on this sweep; the last one writes its table")
        return 0
    write_report(config, space, trials)
    return 0 if any(one.value is not None for one in trials) else 1


def work(study: Study, path: Path, overrides: list[str], strategy: str) -> int:
    """Train one trial after the other until none is left; 75 if asked to stop, else 0."""
    while True:
        with study.claim() as claimed:
            if claimed is None:
                return 0
            run = study.run(claimed.number)
            values = " ".join(claimed.overrides)
            print(f"trial {claimed.number} of {study.space.trials}: {values}", flush=True)
            own = [one for one in overrides if not one.startswith("run=")]
            settings = [*own, *claimed.overrides, setting("run", str(run)), "resume=auto"]
            config = configfile.load(ExperimentConfig, path, settings)
            if train_trial(study, claimed, config, [str(TRAIN), strategy, str(path), *settings]):
                return EXIT_SAVED


def train_trial(
    study: Study, claimed: Claimed, config: ExperimentConfig, command: list[str]
) -> bool:
    """Train one trial to its end, or until it is pruned; True if this process was asked to stop."""
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.terminate()

    child: subprocess.Popen | None = None
    before = signal.signal(signal.SIGTERM, stop)
    try:
        pruned_at = study.report(claimed, scores(config))
        if pruned_at is None and not is_finished(config.run):
            wait_until_free(config.run)
            # If this process is killed, the training saves and ends, and another worker goes on.
            die = partial(die_with_parent, signal.SIGTERM)
            child = subprocess.Popen(command, preexec_fn=die)
            while child.poll() is None:
                time.sleep(POLL_SECONDS)
                if pruned_at is None:
                    pruned_at = study.report(claimed, scores(config))
                    if pruned_at is not None:
                        child.terminate()  # it saves, and could go on
    finally:
        signal.signal(signal.SIGTERM, before)
    code = child.returncode if child is not None else 0
    found = scores(config)
    if pruned_at is None:
        pruned_at = study.report(claimed, found)
    if pruned_at is not None:
        study.finish(claimed, None, pruned=True)
        print(f"trial {claimed.number}: stopped after epoch {pruned_at}", flush=True)
        return stopped
    if stopped or code == EXIT_SAVED:
        return True
    value = best_score(config.run) if code == 0 else None
    study.finish(claimed, value)
    if value is None:
        print(f"trial {claimed.number} failed with exit code {code}", flush=True)
    return False


def wait_until_free(run: Path) -> None:
    """Until the training that a killed sweep has left behind has saved and ended."""
    path = run / files.LOCK
    end = time.monotonic() + LEFT_BEHIND_SECONDS
    while path.is_file() and time.monotonic() < end:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(POLL_SECONDS)
        finally:
            os.close(handle)


def scores(config: ExperimentConfig) -> dict[int, float]:
    """The validation score of each finished epoch, counted from 1, from the run's log."""
    log = config.run / files.LOG
    if not log.is_file():
        return {}
    found: dict[int, float] = {}  # by step: a killed launch may have logged one twice
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # being written
        if entry.get("group") == "val":
            found[int(entry["step"])] = selection_score(config.train.select, entry)
    return {number: found[step] for number, step in enumerate(sorted(found), 1)}


def best_score(run: Path) -> float:
    """The score of the checkpoint that validation chose."""
    best = json.loads((files.checkpoints(run) / checkpoint.BEST).read_text())
    return float(best["score"])


def in_parallel(
    path: Path, space_path: Path, overrides: Sequence[str], strategy: str, jobs: int
) -> int:
    """Start `jobs` processes of this sweep and wait for all; 75 if one was asked to stop."""
    command = [sys.executable, "-m", "emo", "sweep", str(path), str(space_path), *overrides,
               "--strategy", strategy]  # fmt: skip
    workers = [
        subprocess.Popen(command, env=os.environ | gpus_of(job, jobs, count_gpus()))
        for job in range(jobs)
    ]

    def hand_on(*_: Any) -> None:
        for worker in workers:
            worker.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        codes = [worker.wait() for worker in workers]
    finally:
        signal.signal(signal.SIGTERM, before)
    return EXIT_SAVED if any(code in (EXIT_SAVED, -signal.SIGTERM) for code in codes) else 0


def gpus_of(job: int, jobs: int, gpus: Sequence[str]) -> dict[str, str]:
    """The variables that give worker `job` of `jobs` its part of the GPUs; none without GPUs.

    With more workers than GPUs, several share one.
    """
    if not gpus:
        return {}
    share = max(1, len(gpus) // jobs)
    first = job * share % len(gpus)
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first : first + share])}


def count_gpus() -> list[str]:
    """The GPUs that this process may use, by number or name; CUDA itself is left alone."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one for one in visible.split(",") if one.strip() not in ("", "-1", "NoDevFiles")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    cards = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(cards))]
