"""How fast training is: rates for the log, and a line a minute for whoever waits for an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Samples a second, and the share of time spent waiting for data, since the clock started."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.waited, self.samples = 0.0, 0

    def rates(self) -> dict[str, float]:
        elapsed = max(1e-9, time.monotonic() - self._start)
        return {
            "samples_per_second": self.samples / elapsed,
            "data_wait_share": self.waited / elapsed,
        }


class Pace:
    """The line a minute within an epoch, or within what is left of it after a start.

    An epoch that takes less than `every` seconds has none.
    """

    def __init__(self, every: float = 60.0, now: Callable[[], float] = time.monotonic) -> None:
        self._every, self._now = every, now
        self._start = self._last = now()
        self.steps, self.samples = 0, 0  # since the start

    def is_due(self, samples: int) -> bool:
        """Count a step of `samples`; whether a line is due after it."""
        self.steps += 1
        self.samples += samples
        due = self._now() - self._last >= self._every
        if due:
            self._last = self._now()
        return due

    def line(self, done: int, steps: int, loss: float) -> str:
        """The line after step `done` of the epoch's `steps`."""
        seconds = max(1e-9, self._now() - self._start)
        left = (steps - done) * seconds / self.steps
        return (
            f"step {done} of {steps} · loss {loss:.3f} · {self.samples / seconds:.1f} samples/s · "
            f"{_words(left)} left in this epoch"
        )


def _words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
