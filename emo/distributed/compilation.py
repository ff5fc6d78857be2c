"""DeepSpeed's compiled operations: stored in this environment, compiled by one process at a time.

torch lets one process compile while the others wait until a file named `lock` is gone. A process
that is killed while it compiles leaves this file behind, and every later ZeRO run would hang at its
start. So ranks take turns under a lock of the kernel, which is released when its holder ends. While
a process holds that lock, any such file is a leftover, and may be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "TORCH_EXTENSIONS_DIR"  # torch's own variable
_LOCK = "turn.lock"
# What `flock` says on a file system without locks (Lustre mounted without `flock`, some NFS).
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def compilation_lock() -> Iterator[None]:
    """Hold this while an operation is compiled or loaded; other processes wait for it.

    Operations are stored inside this environment. In the home folder, torch's default, two
    environments would overwrite each other's, and compile anew each time.
    """
    if FOLDER not in os.environ:
        home = (
            Path(sys.prefix) if os.access(sys.prefix, os.W_OK) else Path.home() / ".cache" / "emo"
        )
        os.environ[FOLDER] = str(home / "torch_extensions")
    folder = Path(os.environ[FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # torch's own file `lock` has to do; one that is there may be another process' own.
        else:
            for leftover in folder.glob("*/lock"):
                leftover.unlink(missing_ok=True)
        yield
