"""Checkpoints beside training: the state is copied while all ranks stand still, and written later.

A checkpoint of a billion parameters takes half a minute to write, to hash and to bring onto the
disk. None of that needs the model or another rank, so a thread of rank 0 does it, and training goes
on. It is Python's thread, not a process: safetensors, SHA-256 and fsync let go of the interpreter.
"""

from __future__ import annotations

import threading

from emo.distributed.collectives import lost_ranks_named
from emo.runs import checkpoint, files
from emo.runs.checkpoint import Progress
from emo.runs.run import Run


class Saver:
    """Saves the checkpoints of one run, one at a time; every rank has one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, progress: Progress) -> None:
        """Copy the state after `progress.step` steps, and begin to write it; a collective.

        Raises:
            shards.atomic.DiskFull, CannotWrite: on every rank, of this save or of the one before.
        """
        self.finish()
        run, settings = self._run, self._run.config
        assert run.optimizer is not None
        with run.runtime.waiting_at_most(settings.runtime.save_timeout_seconds):
            write = checkpoint.snapshot(
                run.runtime,
                files.checkpoints(settings.run),
                progress,
                run.model,
                run.optimizer,
                keep=settings.train.keep,
            )

        def work() -> None:
            try:
                write()
            except Exception as error:  # raised on all ranks at the next vote, or by `finish`
                self._error = error

        if run.runtime.main:
            self._thread = threading.Thread(target=work, name="checkpoint")
            self._thread.start()

    @property
    def error(self) -> Exception | None:
        """What went wrong in the background so far, on this rank; waits for nothing."""
        return self._error

    @lost_ranks_named()
    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk; a collective.

        Call it before a process is forked as well: the fork would copy what the thread has locked.

        Raises:
            shards.atomic.DiskFull, CannotWrite: on every rank.
        """
        runtime = self._run.runtime
        with runtime.waiting_at_most(self._run.config.runtime.save_timeout_seconds):
            self.close()
            runtime.fail_together(self._error)

    def close(self) -> None:
        """Let this rank's own writing come to its end, whatever has happened to the others."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
