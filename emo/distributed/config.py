"""What runs the training: the section `runtime` of an experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from shards.configfile import Config
from shards.errors import UserError

Strategy = Literal["cpu", "gpu", "zero1", "zero2", "zero3", "fsdp"]


ZERO = ("zero1", "zero2", "zero3")


class RuntimeConfig(Config):
    """What runs the training. `launch/train.sh` sets `strategy` and `processes`."""

    strategy: Strategy = "cpu"
    processes: PositiveInt = 1  # over all nodes
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"  # fp64: tests of exactness
    offload: bool = False  # ZeRO: optimizer state in the memory of the CPU
    compile: bool = False
    timeout_seconds: PositiveFloat = 600  # a collective that takes longer is a hung rank
    preempt_signals: tuple[Literal["USR1", "USR2", "INT"], ...] = ()  # besides TERM, always heard


class RuntimeMismatch(UserError):
    """The launcher runs something else than the configuration asks for."""
