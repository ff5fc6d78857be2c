"""DeepSpeed's compiled operations: kept in this environment, and never waited for in vain.

torch lets one process compile while the others wait for a file named `lock` to go. A process that
is killed while it compiles leaves that file behind, and every later ZeRO run would hang at its
start. So ranks take turns under a lock of the kernel's, which dies with its holder: who holds it
knows that any such file is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "TORCH_EXTENSIONS_DIR"  # torch's own variable
_TURN = "turn.lock"


@contextmanager
def own_turn() -> Iterator[None]:
    """Around what compiles or loads an operation; other processes wait, at most while it lasts.

    Operations are kept beside the packages they belong to: in the home folder, torch's default,
    two environments would compile over each other's every time.
    """
    if FOLDER not in os.environ:
        home = (
            Path(sys.prefix) if os.access(sys.prefix, os.W_OK) else Path.home() / ".cache" / "emo"
        )
        os.environ[FOLDER] = str(home / "torch_extensions")
    folder = Path(os.environ[FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _TURN).open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for leftover in folder.glob("*/lock"):
            leftover.unlink(missing_ok=True)
        yield
