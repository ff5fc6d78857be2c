"""Keep freed memory in the process instead of handing it back after every array."""

from __future__ import annotations

import numpy as np


def keep_freed_memory() -> None:
    """Let the C library hold on to freed blocks of up to 32 MiB; call once in a worker.

    An utterance goes through a dozen arrays of a megabyte or two. glibc takes such blocks from the
    kernel and returns them at once, so that every array is paid for with page faults, which can
    cost more than the arithmetic. Its thresholds rise to the largest block ever freed, up to
    32 MiB (mallopt(3), M_MMAP_THRESHOLD): freeing one is all it takes. Harmless elsewhere.
    """
    np.empty(31 << 20, dtype=np.uint8)
