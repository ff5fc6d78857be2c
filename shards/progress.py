"""The progress of long jobs: a bar in a terminal, a line a minute in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY = 60.0  # seconds between lines where there is no terminal


class Advance(Protocol):
    """Called with the number of units that have just been finished."""

    def __call__(self, units: int, /) -> None: ...


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how many of `total` units are done, with rate and remaining time, on stderr."""
    if sys.stderr.isatty():
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _Lines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        Elapsed(),
        TextColumn("left"),
        Remaining(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(title, total=total, rate="")
        done = 0

        def advance(units: int, /) -> None:
            nonlocal done
            done += units
            rate = done / max(time.monotonic() - began, 1e-6)
            bar.update(task, advance=units, rate=f"{rate:.1f} {unit}/s")

        yield advance


class _Lines:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.began = self.shown = time.monotonic()

    def __call__(self, units: int, /) -> None:
        self.done += units
        now = time.monotonic()
        if now - self.shown < LINE_EVERY and self.done < self.total:
            return
        self.shown = now
        rate = self.done / max(now - self.began, 1e-6)
        left = (self.total - self.done) / max(rate, 1e-6)
        print(
            f"{self.title}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, "
            f"{left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
