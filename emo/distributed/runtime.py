"""The one object that owns accelerator, rank, world, device and seed.

Nothing else asks the environment who it is (`emo.distributed.launcher` reads it on behalf of this
one and of the entry point). `Runtime.start` compares what was asked with what runs, and stops at a
difference.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator

from emo.distributed import launcher
from emo.distributed.config import ZERO, RuntimeConfig, RuntimeMismatch
from emo.distributed.strategies import check_device, differences, input_dtype, make_accelerator
from shards.errors import UserError

T = TypeVar("T")


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
        self.dtype = input_dtype(config)
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
        launcher.die_with_parent()
        launcher.watch(config.preempt_signals)
        check_device(config)
        with quiet():
            accelerator = make_accelerator(config, accumulation, micro_batch, clip)
        problems = differences(config, accelerator)
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

    def together(self, action: Callable[[], T]) -> T:
        """`action()` of every rank; an error on one is an error on all."""
        error: Exception | None = None
        try:
            result = action()
        except Exception as caught:
            error = caught
        self.fail_together(error)
        return result

    def main_decides(self, action: Callable[[], Any]) -> Any:
        """What `action` gives on rank 0 (anything JSON can hold), on every rank; so its error."""
        return self.from_main(self.together(lambda: action() if self.main else None))

    # -- the model -----------------------------------------------------------------------------

    def prepare(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """`model` and its optimizer, wrapped by the strategy. The loader is never prepared."""
        if self.config.precision == "fp64":
            model.double()  # in place: the optimizer's parameters stay the model's
        with quiet():
            if self.config.compile:
                model.compile()  # in place: the names of the weights stay
            model, optimizer = self.accelerator.prepare(model, optimizer)
        if not self.zero and self.accelerator.scaler is None:
            # accelerate's wrapper looks for a package on the disk at each step; only ZeRO and
            # fp16's loss scale need it.
            optimizer = optimizer.optimizer  # type: ignore[attr-defined]
        return model, optimizer

    def scaler(self, optimizer: torch.optim.Optimizer) -> Any:
        """What searches for fp16's loss scale, torch's or DeepSpeed's; None at other precisions."""
        if self.config.precision != "fp16":
            return None
        if self.zero:
            return optimizer.optimizer.loss_scaler  # type: ignore[attr-defined]
        return self.accelerator.scaler

    def accumulate(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Around each micro-batch: gradients are exchanged at the window's last one only."""
        return self.accelerator.accumulate(model)

    @property
    def stop_requested(self) -> bool:
        """Whether this rank was asked to save and end."""
        return launcher.stop_requested()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' start-up remarks that a user can do nothing about."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        yield
    # A dimension of size 1 has any stride: the first convolution's, in channels-last.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
