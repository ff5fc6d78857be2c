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
    """

    strategy: Strategy | None = None
    processes: PositiveInt | None = None  # over all nodes
    precision: Precision | None = None  # set: it wins over the launcher's
    offload: bool = False  # ZeRO: optimizer state in the memory of the CPU
    compile: bool = False
    timeout_seconds: PositiveFloat = 600  # a collective that takes longer is a hung rank
    preempt_signals: tuple[Literal["USR1", "USR2", "INT"], ...] = ()  # besides TERM, always heard


class RunningConfig(RuntimeConfig):
    """The same with nothing left open: what runs, and what a run folder records."""

    strategy: Strategy
    processes: PositiveInt
    precision: Precision


class RuntimeMismatch(UserError):
    """The launcher runs something else than the configuration asks for."""
