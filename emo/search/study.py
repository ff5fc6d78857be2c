"""The trials of a sweep in Optuna's journal, a file that any number of workers may share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emo.config import ExperimentConfig
from emo.search.space import SpaceConfig, drawn
from shards import atomic, configfile
from shards.errors import UserError

JOURNAL, LOCK = "journal.log", "sweep.lock"
DIGEST = "digest"  # of the sweep, an attribute of the study


class SweepError(UserError):
    """A sweep that cannot be run, or go on, as asked."""


@dataclass(frozen=True)
class Claimed:
    """A trial that this process works on: its number, its settings, and Optuna's object."""

    number: int
    overrides: list[str]
    trial: Any


class Study:
    """The trials in `folder`. `digest` tells one sweep from another.

    Every draw has a sampler of its own, seeded by the sweep's seed, the trial and the place in the
    space: so a sweep that was killed, at whatever moment, draws what an uninterrupted one draws.

    Raises:
        SweepError: `folder` holds another sweep.
        UserError: optuna is not installed.
    """

    def __init__(self, folder: Path, space: SpaceConfig, digest: str) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
        except ImportError:
            raise UserError(
                "emo sweep needs the package optuna: pip install 'emo-shards[sweep]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space = folder, space
        with atomic.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            path = str(folder / JOURNAL)
            # A killed process leaves the lock file of Optuna's own lock behind, which would block
            # every later start; ours is the kernel's, and held around all that writes.
            self._remove_stale(path)
            storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
            self.study = optuna.create_study(
                storage=storage, study_name="sweep", direction="maximize", load_if_exists=True,
                pruner=optuna.pruners.NopPruner(),  # `report` prunes
            )  # fmt: skip
            known = self.study.user_attrs.get(DIGEST)
            if known is None:
                self.study.set_user_attr(DIGEST, digest)
            elif known != digest:
                raise SweepError(
                    f"{folder} holds a sweep of another configuration or space: run=FOLDER starts "
                    "another one (trials may be more, everything else must stay)"
                )

    def run(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    @contextmanager
    def claim(self) -> Iterator[Claimed | None]:
        """The next trial for this process: one that another left behind, or a new one.

        None if there is nothing left to start. The claim ends with the process, in whatever way.
        """
        handle, claimed = None, None
        with self._alone():
            for frozen in self.trials():
                if frozen.state.is_finished():
                    continue
                handle = self._lock(frozen.number)
                if handle is not None:
                    claimed = self._taken(frozen.number)
                    break
            if claimed is None and len(self.trials()) < self.space.trials:
                number = self.study.ask().number
                handle = self._lock(number)
                assert handle is not None, "a trial that nobody knows yet"
                claimed = self._taken(number)
        try:
            yield claimed
        finally:
            if handle is not None:
                os.close(handle)

    def trials(self) -> list[Any]:
        """Optuna's records of all trials, by number."""
        return list(self.study.get_trials(deepcopy=False))

    def report(self, claimed: Claimed, scores: dict[int, float]) -> int | None:
        """Tell the validation score of each epoch; the first epoch at which to stop, or None.

        Scores that are known already change nothing: so the answer is the same after a restart.
        """
        for epoch, score in sorted(scores.items()):
            with self._alone():
                known = self.trials()[claimed.number].intermediate_values
                if epoch not in known:
                    claimed.trial.report(score, epoch)
            if self._prunes(claimed, epoch):
                return epoch
        return None

    def finish(self, claimed: Claimed, value: float | None, *, pruned: bool = False) -> None:
        """End a trial: with its value; pruned, with the last one reported; None: as failed."""
        from optuna.trial import TrialState

        state = TrialState.COMPLETE if value is not None else TrialState.FAIL
        with self._alone():
            self.study.tell(claimed.number, value, state=TrialState.PRUNED if pruned else state)

    def _prunes(self, claimed: Claimed, epoch: int) -> bool:
        """Whether the trial is below the median at `epoch`, seen from the trials before it."""
        if self.space.pruning is None or epoch < self.space.pruning.epochs:
            return False
        before = [
            one for one in self.trials()[: claimed.number]
            if one.state.is_finished() and one.state.name == "COMPLETE"
        ]  # fmt: skip
        if len(before) < self.space.pruning.trials:
            return False
        mine = self.trials()[claimed.number].intermediate_values
        best = max(score for at, score in mine.items() if at <= epoch)
        others = [one.intermediate_values[epoch] for one in before
                  if epoch in one.intermediate_values]  # fmt: skip
        return bool(others) and best < float(np.median(others))

    def _taken(self, number: int) -> Claimed:
        import optuna

        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        trial = optuna.trial.Trial(self.study, self.trials()[number]._trial_id)

        def reseed(place: int) -> None:
            seed = np.random.SeedSequence([self.space.seed, number, place]).generate_state(1)
            self.study.sampler = samplers[self.space.sampler](seed=int(seed[0]))

        return Claimed(number, list(drawn(trial, self.space.space, reseed)), trial)

    def _lock(self, number: int) -> int | None:
        """Lock a trial for this process; None if another process has it."""
        handle = os.open(self.folder / f"trial-{number:04d}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of the sweep at a time, also across nodes (see `emo.runs.folder.lock`)."""
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @staticmethod
    def _remove_stale(journal: str) -> None:
        Path(journal + ".lock").unlink(missing_ok=True)


def sweep_digest(config: ExperimentConfig, space: SpaceConfig) -> str:
    """What makes two sweeps the same: all but where they run, and how many trials they have."""
    settings = config.model_dump(mode="json")
    for name in ("run", "resume", "runtime"):
        del settings[name]
    ranges = space.model_dump(mode="json")
    del ranges["trials"]
    return configfile.digest({"config": settings, "space": ranges})
