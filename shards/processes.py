"""What a process sets for itself: its end with its parent's, and memory that it keeps."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """From now on, end this process when the process that started it ends; call it once, early.

    A child of `multiprocessing` watches its parent from a thread. The kernel cannot do that for it:
    under "forkserver" its parent is the server, which may outlive the process that asked for it.
    For all other processes the kernel (Linux only) sends the signal `number` when the parent dies.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    elif sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def raise_file_limit() -> None:
    """Let this process and its children open as many files as the system allows them.

    Each rank that another one talks to is an open socket; the usual limit is 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: "unlimited" is more than it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spin_little() -> None:
    """Let OpenMP's threads sleep soon when they wait; call before torch is imported.

    GNU's OpenMP, which torch's packages bring, spins 300,000 times first. Beside other busy
    processes the spinning threads keep the one that they wait for off its core: a training falls to
    a tenth of its speed (benchmarks/spinning.py). A choice in the environment stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    # Not sys.exit: that would end this thread alone, and the main thread may hang in a read.
    os._exit(1)


def keep_freed_memory() -> None:
    """Let the C library hold on to freed blocks of up to 32 MiB; call once in a worker.

    Processing an utterance takes a dozen arrays of a megabyte or two. glibc gets such blocks from
    the kernel and returns them when they are freed, so that every array costs page faults, which
    can take longer than the arithmetic. glibc raises its threshold to the largest block that was
    ever freed, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), so freeing one block of nearly that
    size is enough. Other C libraries are not affected.
    """
    import numpy as np  # most processes that only ask for the rest never need it

    np.empty(31 << 20, dtype=np.uint8)
