"""This process and its launcher: which rank it is, when it must stop, which exit code it leaves.

The only file that reads the launcher's environment variables. It imports nothing heavy, so that
signals which arrive while torch is still being imported are noticed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from shards import processes

# Set by launch/train.sh: the file for the first exit code, and the device that it chose.
_EXIT_FILE = "EMO_EXIT_FILE"
_DEVICE = "EMO_DEVICE"
_STOPPING = b"stopping: the run saves a checkpoint first (Ctrl-C once more to kill it)\n"
# Seconds. torchrun and the terminal both send the ranks a SIGINT for one Ctrl-C.
_ECHO = 1.0
_stop = False
_interrupted: float | None = None  # when the first SIGINT came
_watched: set[signal.Signals] = set()


def launched() -> bool:
    """Whether a launcher started this process as one of a group (which may have one member)."""
    return "WORLD_SIZE" in os.environ


def missing_variables() -> list[str]:
    """What a launcher would have set besides WORLD_SIZE: something else has set that one."""
    return [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR") if name not in os.environ]


def world() -> int:
    """Processes over all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Processes on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def nodes() -> int:
    """Machines, each with as many processes as this one."""
    return max(1, world() // local_world())


def local_rank() -> int:
    """The number of this process on its node: that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def main_address() -> str:
    """Where rank 0 is met."""
    return os.environ.get("MASTER_ADDR", "127.0.0.1")


def is_main() -> bool:
    """Whether this is rank 0."""
    return os.environ.get("RANK", "0") == "0"


def die_with_parent() -> None:
    """End this process when its launcher dies, if it has one: no rank is orphaned.

    `accelerate launch` for one process hands no signal on. Its rank takes its end for SIGTERM.
    """
    if launched() or _EXIT_FILE in os.environ:
        processes.die_with_parent()
    elif "accelerate" in _parent_command():
        processes.die_with_parent(signal.SIGTERM)


def _parent_command() -> str:
    """The command line of the process that started this one; empty where it cannot be read."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text()
    except OSError:
        return ""


def device() -> str | None:
    """The device that launch/train.sh chose, "cpu" or "gpu"; None if it was not used."""
    return os.environ.get(_DEVICE)


def watch(names: Iterable[str]) -> None:
    """From now on SIGTERM and the signals of these names (USR1 ...) only ask for a stop.

    A second SIGINT ends the process at once. Otherwise the handler only sets a flag: the signal
    may come in the middle of a collective or of a checkpoint, and all ranks have to stop at the
    same step.
    """

    def request_stop(number: int, frame: Any) -> None:
        global _stop, _interrupted
        _stop = True
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if _interrupted is None:
            _interrupted = now
            if is_main() and parent_process() is None:  # not a worker of the loader, its fork
                os.write(2, _STOPPING)  # print may be in the middle of another line
        elif now - _interrupted > (_ECHO if launched() else 0):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

    for name in {"TERM", *names}:
        number = signal.Signals[f"SIG{name}"]
        signal.signal(number, request_stop)
        _watched.add(number)


def stop_requested() -> bool:
    """Whether a watched signal has come; training asks at every step."""
    return _stop


def stop_watching() -> None:
    """Ignore the watched signals from now on.

    Python removes its handlers before the process ends. A signal at that moment would kill a run
    that has already finished, and turn its exit code into a failure.
    """
    for number in _watched:
        signal.signal(number, signal.SIG_IGN)


def note_traces(folder: Path) -> None:
    """Tell the launcher where NCCL leaves its records, for its message about a killed rank."""
    path = os.environ.get(_EXIT_FILE)
    if path is not None and is_main():
        Path(path).with_name("traces").write_text(str(folder))


def write_exit_code(code: int) -> bool:
    """Write `code` for launch/train.sh, which ends with it. False if another rank did so before.

    The first rank to fail knows the cause. The others' errors (a lost connection, for instance)
    only follow from it and would bury it: a rank that gets False prints nothing.
    """
    path = os.environ.get(_EXIT_FILE)
    if path is None:
        return True
    try:
        with Path(path).open("x") as file:  # "x": only one process can create the file
            file.write(str(code))
    except OSError:
        return False
    return True
