"""The one object that owns accelerator, rank, world, device and seed; nothing else reads `RANK`.

accelerate silently runs something else than was asked for in several settings (ZeRO or FSDP with
the CPU flag becomes plain data parallelism, a missing launcher becomes one process).
`Runtime.start` compares what was asked with what runs, and stops at a difference.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from pydantic import PositiveFloat, PositiveInt

from shards.configfile import Config
from shards.errors import UserError

Strategy = Literal["cpu", "gpu", "zero1", "zero2", "zero3", "fsdp"]
ZERO = ("zero1", "zero2", "zero3")
DEEPSPEED_FOLDER = Path(__file__).parent.parent / "launch" / "deepspeed"


class RuntimeConfig(Config):
    """What runs the training. `launch/train.sh` sets `strategy` and `processes`."""

    strategy: Strategy = "cpu"
    processes: PositiveInt = 1  # over all nodes
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"  # fp64: tests of exactness
    offload: bool = False  # ZeRO: optimizer state in the memory of the CPU
    compile: bool = False
    timeout_seconds: PositiveFloat = 600  # a collective that takes longer is a hung rank
    preempt_signals: tuple[Literal["TERM", "USR1", "USR2", "INT"], ...] = ("TERM",)


class RuntimeMismatch(UserError):
    """The launcher runs something else than the configuration asks for."""


class OtherRankFailed(UserError):
    """Another rank shows the error; this one only ends."""


class Runtime:
    """Rank, world, device, precision and the collectives of one launched process.

    Attributes:
        accelerator: accelerate's engine; `None` is never used for it.
        rank, world: this process and how many there are, over all nodes.
        device: where this process' tensors live.
        dtype: what floating-point inputs must be cast to before the model sees them.
    """

    def __init__(self, config: RuntimeConfig, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes
        self.device: torch.device = accelerator.device
        self.dtype = _input_dtype(config)
        self._stop = False
        # Flags between ranks travel over gloo, so that they cost no synchronisation with a GPU.
        self._flags = (
            dist.new_group(backend="gloo", timeout=timedelta(seconds=config.timeout_seconds))
            if self.world > 1
            else None
        )

    @classmethod
    def start(
        cls, config: RuntimeConfig, *, accumulation: int, micro_batch: int, clip: float
    ) -> Runtime:
        """Join the launched processes.

        Raises:
            RuntimeMismatch: what the launcher started is not what `config` asks for; the message
                lists every difference.
        """
        die_with_parent()
        _check_device(config)
        accelerator = _accelerator(config, accumulation, micro_batch, clip)
        problems = _differences(config, accelerator)
        if problems:
            raise RuntimeMismatch(
                "what runs is not what was asked for:\n  "
                + "\n  ".join(problems)
                + "\nstart through launch/train.sh STRATEGY CONFIG, which sets both"
            )
        return cls(config, accelerator)

    @property
    def main(self) -> bool:
        """Whether this is rank 0, the one that prints and writes."""
        return self.rank == 0

    @property
    def zero(self) -> bool:
        return self.config.strategy in ZERO

    @property
    def fsdp(self) -> bool:
        return self.config.strategy == "fsdp"

    def banner(self, facts: Sequence[str]) -> str:
        """Five lines that say what runs, on what, on which data."""
        device = str(self.device)
        if self.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(self.device)})"
        first = (
            f"strategy {self.config.strategy} · {self.world} process{'es' * (self.world > 1)} · "
            f"{self.config.precision} · {device} · torch {torch.__version__} · {platform.node()}"
        )
        return "\n".join([first, *facts])

    # -- collectives ---------------------------------------------------------------------------

    def agree(self, *values: float) -> list[float]:
        """The sums of `values` over all ranks, on every rank (over gloo, on the CPU)."""
        if self._flags is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._flags)
        return tensor.tolist()

    def gather(self, array: np.ndarray) -> np.ndarray:
        """All ranks' arrays of one shape [n, ...], stacked to [world, n, ...], on every rank."""
        if self._flags is None:
            return array[None]
        mine = torch.from_numpy(np.ascontiguousarray(array))
        every = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(every, mine, group=self._flags)
        return torch.stack(every).numpy()

    def from_main(self, value: Any) -> Any:
        """Rank 0's `value` (anything JSON can hold) on every rank."""
        if self._flags is None:
            return value
        text = json.dumps(value) if self.main else ""
        size = torch.tensor([len(text.encode())])
        dist.broadcast(size, 0, group=self._flags)
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.main:
            data.copy_(torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8))
        dist.broadcast(data, 0, group=self._flags)
        return json.loads(bytes(data.tolist()))

    def barrier(self) -> None:
        if self._flags is not None:
            dist.barrier(group=self._flags)

    def fail_together(self, error: Exception | None) -> None:
        """Raise on every rank if any rank brings an error: the lowest one's own, which is shown.

        Raises:
            OtherRankFailed: on the ranks that have nothing to show.
        """
        failed = self.gather(np.array([error is not None]))[:, 0]
        if not failed.any():
            return
        if error is not None and int(failed.argmax()) == self.rank:
            raise error
        raise OtherRankFailed(f"rank {int(failed.argmax())} failed")

    # -- the model -----------------------------------------------------------------------------

    def prepare(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Hand model and optimizer to the strategy. The loader is never prepared."""
        if self.config.precision == "fp64":
            model.double()
        with quiet():
            model, optimizer = self.accelerator.prepare(model, optimizer)
        return model, optimizer

    def to_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`batch` on this rank's device; audio in the dtype that the model computes with."""
        return {
            name: tensor.to(
                self.device, dtype=self.dtype if name == "audio" else None, non_blocking=True
            )
            for name, tensor in batch.items()
        }

    def accumulate(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Around each micro-batch: gradients are exchanged at the window's last one only."""
        return self.accelerator.accumulate(model)

    # -- stopping ------------------------------------------------------------------------------

    def watch_signals(self) -> None:
        """From now on a preemption signal sets a flag; training looks at it at every step."""

        def request_stop(number: int, frame: Any) -> None:
            self._stop = True

        for name in self.config.preempt_signals:
            signal.signal(getattr(signal, f"SIG{name}"), request_stop)

    @property
    def stop_requested(self) -> bool:
        return self._stop

    def close(self) -> None:
        """Leave the process group; without this, ranks abort at exit."""
        if dist.is_initialized():
            dist.destroy_process_group()


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its launcher dies: no rank is orphaned."""
    PR_SET_PDEATHSIG = 1
    if "WORLD_SIZE" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def quiet() -> AbstractContextManager[Any]:
    """Silence the libraries' start-up warnings that a user can do nothing about."""
    return warnings.catch_warnings(action="ignore")


def _input_dtype(config: RuntimeConfig) -> torch.dtype:
    if config.precision == "fp64":
        return torch.float64
    if config.strategy in ZERO:  # DeepSpeed casts the whole model
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision, torch.float32)
    return torch.float32


def _check_device(config: RuntimeConfig) -> None:
    if config.strategy == "gpu" and not torch.cuda.is_available():
        raise RuntimeMismatch(
            "strategy gpu was asked for, but torch sees no CUDA device; use strategy cpu, or check "
            "the driver with nvidia-smi"
        )
    on_cpu = config.strategy == "cpu" or not torch.cuda.is_available()
    if on_cpu and config.precision == "fp16":
        raise RuntimeMismatch("precision fp16 needs a GPU; on the CPU use bf16 or fp32")
    if config.offload and config.strategy not in ZERO:
        raise RuntimeMismatch(f"offload belongs to ZeRO; strategy {config.strategy} has none")
    if config.precision == "fp64" and config.strategy in (*ZERO, "fsdp"):
        raise RuntimeMismatch("precision fp64 is for strategies cpu and gpu only")


def _accelerator(
    config: RuntimeConfig, accumulation: int, micro_batch: int, clip: float
) -> Accelerator:
    on_cpu = not torch.cuda.is_available() or config.strategy == "cpu"
    group = InitProcessGroupKwargs(
        backend="gloo" if on_cpu else "nccl", timeout=timedelta(seconds=config.timeout_seconds)
    )
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    mixed = {"fp64": "no", "fp32": "no"}.get(config.precision, config.precision)
    common: dict[str, Any] = {
        "gradient_accumulation_steps": accumulation,
        "mixed_precision": mixed,
        "step_scheduler_with_optimizer": False,
    }
    if config.strategy in ZERO:
        _require_launched("ACCELERATE_USE_DEEPSPEED", config)
        settings = _deepspeed_settings(config, accumulation, micro_batch, clip)
        with quiet():
            return Accelerator(
                deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings),
                kwargs_handlers=[group],
                **common,
            )
    if config.strategy == "fsdp":
        _require_launched("ACCELERATE_USE_FSDP", config)
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="no_wrap", state_dict_type="FULL_STATE_DICT"
        )
        accelerator = Accelerator(cpu=on_cpu, fsdp_plugin=plugin, kwargs_handlers=[group], **common)
        if on_cpu and accelerator.num_processes > 1:
            # accelerate turns FSDP into plain multi-CPU here, though torch's FSDP2 runs on gloo.
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        return accelerator
    launched = "WORLD_SIZE" in os.environ  # a lone process has no group to set up
    return Accelerator(cpu=on_cpu, kwargs_handlers=[group, ddp] if launched else [], **common)


def _require_launched(variable: str, config: RuntimeConfig) -> None:
    if os.environ.get(variable, "").lower() != "true":
        raise RuntimeMismatch(
            f"strategy {config.strategy} was asked for, but this process was not launched for it; "
            f"start it by launch/train.sh {config.strategy} CONFIG"
        )


def _deepspeed_settings(
    config: RuntimeConfig, accumulation: int, micro_batch: int, clip: float
) -> dict[str, Any]:
    """The strategy's file with every number set by us: no `auto` is left to a library's guess."""
    settings = json.loads((DEEPSPEED_FOLDER / f"{config.strategy}.json").read_text())
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings |= {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": micro_batch * accumulation * world,
        "gradient_clipping": clip,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
    }
    if config.offload:
        settings["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    return settings


def _differences(config: RuntimeConfig, accelerator: Accelerator) -> list[str]:
    wanted = {
        "cpu": (DistributedType.MULTI_CPU, DistributedType.NO),
        "gpu": (DistributedType.MULTI_GPU, DistributedType.NO),
        "fsdp": (DistributedType.FSDP,),
    }.get(config.strategy, (DistributedType.DEEPSPEED,))
    found = accelerator.distributed_type
    problems = []
    if found not in wanted:
        problems.append(f"strategy: asked for {config.strategy}, accelerate runs {found.value}")
    if accelerator.num_processes != config.processes:
        problems.append(f"processes: asked for {config.processes}, {accelerator.num_processes} run")
    mixed = {"fp64": "no", "fp32": "no"}.get(config.precision, config.precision)
    if accelerator.mixed_precision != mixed:
        problems.append(
            f"precision: asked for {config.precision}, accelerate has {accelerator.mixed_precision}"
        )
    device = accelerator.device.type
    if config.strategy == "gpu" and device != "cuda":
        problems.append(f"device: asked for a GPU, this rank has {device}")
    if config.strategy == "cpu" and device != "cpu":
        problems.append(f"device: asked for the CPU, this rank has {device}")
    return problems
