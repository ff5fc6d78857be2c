"""What the words of CUDA and NCCL lead to: the exit code that SLURM's scripts decide by."""

import pytest
import torch
import torch.distributed as dist

from emo.commands.training.train import explain

CUDA = "CUDA error: {}\nCUDA kernel errors might be asynchronously reported at some other API call"
NCCL = "NCCL error in: ProcessGroupNCCL.cpp:3690, {}, NCCL version 2.28.9\nLast error:\n{}"


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "memory"),
        (torch.AcceleratorError(CUDA.format("out of memory")), 2, "GPU's memory is full"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), 2,
         "GPU's memory is full"),
        (dist.DistBackendError(NCCL.format("unhandled cuda error", "Cuda failure 2 'out of memory'")
         ), 2, "GPU's memory is full"),
        (torch.AcceleratorError(CUDA.format("no kernel image is available for execution on the "
         "device")), 2, "Turing"),
        (torch.AcceleratorError(CUDA.format("uncorrectable ECC error encountered")), 76, "dmesg"),
        (torch.AcceleratorError(CUDA.format("unspecified launch failure")), 76, "resume=auto"),
        (RuntimeError(CUDA.format("unknown error")), 76, "resume=auto"),
        (dist.DistBackendError(NCCL.format("remote process exited or there was a network error",
         "socketProgress: Connection closed")), 76, "between GPUs"),
        (dist.DistBackendError(NCCL.format("unhandled system error", "")), 76, "between GPUs"),
        (dist.DistNetworkError("The server socket has failed to listen"), 76, "resume=auto"),
        (torch.AcceleratorError(CUDA.format("device-side assert triggered")), 1, None),
        (dist.DistBackendError(NCCL.format("ncclInvalidUsage", "")), 1, None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1, None),
        (ValueError("NCCL is only a word here"), 1, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_the_exit_code_of_an_error_of_the_gpu(error, code, word):
    found, message = explain(error)
    assert found == code
    assert message is None if word is None else word in message
