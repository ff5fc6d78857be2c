"""Keep freed memory in the process instead of handing it back after every array."""

from __future__ import annotations

import numpy as np


def keep_freed_memory() -> None:
    """Let the C library hold on to freed blocks of up to 32 MiB; call once in a worker.

    Processing an utterance takes a dozen arrays of a megabyte or two. glibc gets such blocks from
    the kernel and returns them when they are freed, so that every array costs page faults, which
    can take longer than the arithmetic. glibc raises its threshold to the largest block that was
    ever freed, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), so freeing one block of nearly that
    size is enough. Other C libraries are not affected.
    """
    np.empty(31 << 20, dtype=np.uint8)
