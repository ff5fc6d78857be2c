"""Runs the daemons of the test cluster and ends all that came of them when its standard input ends.

The tests start this program and hold its standard input open. Each line they write is a command
(a JSON list of strings) to start. However pytest ends, by a finaliser, an interrupt or `kill -9`,
the kernel closes that pipe, and this program kills every process below it and deletes the
cluster's folder, its one argument.

It is a "subreaper": a daemon that detaches itself becomes its child instead of init's, so that
"every process below it" is complete, and nobody else's scheduler can be among them.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def parents() -> dict[int, int]:
    """Process id -> parent's process id, for every process that is not a zombie."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = int(parent)
    return found


def descendants(root: int) -> set[int]:
    """Ids of all processes below `root`, itself excluded."""
    parent_of = parents()
    below: set[int] = set()
    new = {root}
    while new:
        new = {child for child, parent in parent_of.items() if parent in new and child not in below}
        below |= new
    return below


def reap() -> None:
    """Collect ended children, those adopted included."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_all(patience: float = 20.0) -> set[int]:
    """SIGKILL every descendant until none is left; returns those that would not go."""
    deadline = time.monotonic() + patience
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        reap()
    return left


def main() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # only the pipe's end counts
        signal.signal(number, lambda *_: None)
    pending = b""
    while True:
        reap()
        if not select.select([0], [], [], 0.5)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            subprocess.Popen(json.loads(line), stdin=subprocess.DEVNULL, start_new_session=True)
    left = end_all()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
