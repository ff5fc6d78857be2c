"""What runs the training: the section `runtime` of an experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from shards.configfile import Config
from shards.errors import UserError

Strategy = Literal["cpu", "gpu", "zero1", "zero2", "zero3", "fsdp"]
Precision = Literal["fp32", "bf16", "fp16", "fp64"]  # fp64: tests of exactness

ZERO = ("zero1", "zero2", "zero3")


class RuntimeConfig(Config):
    """What runs the training.

    `strategy`, `processes` and `precision` are what the launcher started where they are not set;
    `launch/train.sh` sets the first two. Where they are set, something else is an error.

    bf16 and fp16 mean the same under every strategy: the optimizer's weights and moments are
    float32, the model computes in the half type, and gradients are reduced over ranks and added up
    over micro-batches in float32. Inputs are normalised in float32, then cast. One thing differs:
    under cpu and gpu (autocast) norms, softmax and the like stay in float32, under ZeRO and FSDP
    the whole model is in the half type.
    """

    strategy: Strategy | None = None
    processes: PositiveInt | None = None  # over all nodes
    precision: Precision | None = None  # set: it wins over the launcher's
    offload: bool = False  # ZeRO: optimizer state in the memory of the CPU
    compile: bool = False
    # In fp32, products and convolutions round their factors to 10 bits (TensorFloat-32): several
    # times as fast. None: true on CUDA. It says nothing of the CPU, which has no TF32.
    tf32: bool | None = None
    deterministic: bool = False  # CUDA: the same bits at each run, or an error; slower
    timeout_seconds: PositiveFloat = 600  # a collective that takes longer is a hung rank
    start_timeout_seconds: PositiveFloat = 1800  # up to the first step's end, with compilation
    save_timeout_seconds: PositiveFloat = 1800  # while rank 0 writes a checkpoint
    preempt_signals: tuple[Literal["USR1", "USR2", "INT"], ...] = ()  # besides TERM, always heard


class RunningConfig(RuntimeConfig):
    """The same with nothing left open: what runs, and what a run folder records."""

    strategy: Strategy
    processes: PositiveInt
    precision: Precision


class RuntimeMismatch(UserError):
    """The launcher runs something else than the configuration asks for."""
