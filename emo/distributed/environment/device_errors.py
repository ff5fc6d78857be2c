"""What an error of CUDA or NCCL means for the one who has to go on: one table of their words."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist

Meaning = Literal["memory", "card", "bug", "transient"]

# The first line whose words are in an error counts. None of it has a class or a code of its own
# that holds for CUDA's, NCCL's and cuBLAS' errors alike.
_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("out of memory", "memory"),
    ("CUBLAS_STATUS_ALLOC_FAILED", "memory"),
    ("no kernel image is available", "card"),  # older than what the wheel was built for
    ("device-side assert", "bug"),  # an index out of range: it comes again each time
    ("invalid device ordinal", "bug"),
    ("invalid argument", "bug"),
    ("ncclInvalidUsage", "bug"),
    ("ncclInvalidArgument", "bug"),
    # ECC, "fallen off the bus", "unspecified launch failure", ncclRemoteError, ncclSystemError ...
    ("CUDA error", "transient"),
    ("NCCL", "transient"),
    ("nccl", "transient"),
)


def meaning(error: Exception) -> Meaning | None:
    """What `error` means if it is one of a GPU or of the connection between ranks, else None."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "memory"
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    ours = isinstance(error, torch.AcceleratorError | dist.DistError)
    if not ours and not any(word in text for word in ("CUDA error", "NCCL", "CUBLAS_STATUS")):
        return None
    found = next((means for word, means in _WORDS if word in text), None)
    return found or ("transient" if isinstance(error, dist.DistError) else "bug")
