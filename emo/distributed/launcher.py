"""This process and its launcher: which rank it is, when it shall stop, how it says how it ended.

Imports nothing heavy: signals that come while torch is still being imported are heard too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shards import processes

_EXIT_FILE = "EMO_EXIT_FILE"  # set by launch/train.sh: where the first process to fail says so
_stop = False
_watched: set[signal.Signals] = set()


def launched() -> bool:
    """Whether a launcher started this process as one of a group (which may have one member)."""
    return "WORLD_SIZE" in os.environ


def world() -> int:
    """Processes over all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def main() -> bool:
    """Whether this is rank 0."""
    return os.environ.get("RANK", "0") == "0"


def die_with_parent() -> None:
    """End this process when its launcher dies, if it has one: no rank is orphaned."""
    if launched() or _EXIT_FILE in os.environ:
        processes.die_with_parent()


def watch(names: Iterable[str]) -> None:
    """From now on SIGTERM and the signals of these names (USR1 ...) only ask for a stop."""

    def request_stop(number: int, frame: Any) -> None:
        global _stop
        _stop = True

    for name in {"TERM", *names}:
        number = signal.Signals[f"SIG{name}"]
        signal.signal(number, request_stop)
        _watched.add(number)


def stop_requested() -> bool:
    """Whether a watched signal has come; training looks at it at every step."""
    return _stop


def stop_watching() -> None:
    """Be deaf to the watched signals: Python gives its own handlers up before it has ended."""
    for number in _watched:
        signal.signal(number, signal.SIG_IGN)


def claim_end(code: int) -> bool:
    """Leave `code` for launch/train.sh; False if another process of this node spoke before.

    The first to fail is the cause. What the others then say (a lost connection, say) would only
    bury it, so who comes late keeps silent.
    """
    path = os.environ.get(_EXIT_FILE)
    if path is None:
        return True
    try:
        with Path(path).open("x") as file:
            file.write(str(code))
    except OSError:  # it is there already
        return False
    return True
