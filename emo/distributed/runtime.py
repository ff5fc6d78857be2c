"""The one object that owns accelerator, rank, world, device and seed.

Nothing else asks the environment who it is: `emo.distributed.launcher` reads it for this one and
for the entry point. `Runtime.start` compares what was asked with what runs, and stops where they
differ.
"""

from __future__ import annotations

import contextlib
import io
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from emo.distributed import launcher
from emo.distributed.collectives import Collectives, lost_ranks_named
from emo.distributed.config import ZERO, RunningConfig, RuntimeConfig, RuntimeMismatch
from emo.distributed.environment import launched, network, variables
from emo.distributed.strategies import (
    check_device,
    differences,
    input_dtype,
    layers_of,
    make_accelerator,
    mixed_precision,
    on_cpu,
    patience_at_start,
    set_numerics,
)


class Runtime(Collectives):
    """Rank, world, device, precision and the collectives of one launched process.

    Attributes:
        config: what runs, with nothing left open.
        as_launched: the settings that the launcher decided.
        accelerator: accelerate's engine.
        rank, world: this process and how many there are, over all nodes.
        device: where this process' tensors live.
        dtype: what floating-point inputs must be cast to before the model sees them.
    """

    def __init__(self, config: RunningConfig, accelerator: Accelerator) -> None:
        super().__init__(
            accelerator.process_index, accelerator.num_processes, patience_at_start(config)
        )
        self.config = config
        self.as_launched: list[str] = []
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.dtype = input_dtype(config)

    @classmethod
    @lost_ranks_named()
    def start(
        cls,
        asked: RuntimeConfig,
        *,
        accumulation: int,
        micro_batch: int,
        clip: float,
        folder: Path | None = None,
    ) -> Runtime:
        """Join the launched processes. What `asked` leaves open is what the launcher started.

        Args:
            folder: of the run, below which NCCL records what it did before it hung.

        Raises:
            RuntimeMismatch: what the launcher started, or what was left in the environment, is not
                what `asked` asks for; the message lists every difference.
        """
        launcher.die_with_parent()
        launcher.watch(asked.preempt_signals)
        config = launched.running(asked)
        variables.check(config, on_cpu(config))
        check_device(config)
        set_numerics(config)
        ours = {
            "train.accumulation": str(accumulation),
            "optim.clip": str(clip),
            "runtime.precision": mixed_precision(config),
        }
        for line in variables.notes(ours) if launcher.is_main() else ():
            print(line, file=sys.stderr, flush=True)
        variables.replace(config, accumulation, on_cpu(config))
        network.check()
        network.prepare(folder, on_cpu(config))
        with library_remarks_hidden():
            accelerator = make_accelerator(config, accumulation, micro_batch, clip)
        problems = differences(config, accelerator)
        if problems:
            raise RuntimeMismatch(
                "what runs is not what was asked for:\n  "
                + "\n  ".join(problems)
                + "\nstart through launch/train.sh STRATEGY CONFIG, which sets both, or leave "
                "runtime.strategy and runtime.processes open"
            )
        runtime = cls(config, accelerator)
        runtime.as_launched = launched.left_open(asked)
        return runtime

    @property
    def zero(self) -> bool:
        return self.config.strategy in ZERO

    def banner(self, facts: Sequence[str]) -> str:
        """Five lines that say what runs, on what, on which data."""
        device = str(self.device)
        if self.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(self.device)})"
        first = (
            f"strategy {self.config.strategy} · {self.world} process{'es' * (self.world > 1)} · "
            f"{self.config.precision} · {device} · torch {torch.__version__} · {platform.node()}"
            + (f" · {network.describe()}" if launcher.nodes() > 1 else "")
            + (f" · {', '.join(self.as_launched)} as launched" if self.as_launched else "")
        )
        return "\n".join([first, *facts])

    @lost_ranks_named()
    def prepare(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """`model` and its optimizer, wrapped by the strategy.

        The loader is not prepared: accelerate would give ranks its own share of the data, and only
        `emo.data.plan` decides which rank reads what.
        """
        if self.config.precision == "fp64":
            model.double()  # in place: the optimizer's parameters stay the model's
        if self.config.strategy == "fsdp":
            plugin = self.accelerator.state.fsdp_plugin
            plugin.transformer_cls_names_to_wrap = layers_of(model)
        with library_remarks_hidden():
            if self.config.compile:
                model.compile()  # in place: the names of the weights stay
            model, optimizer = self.accelerator.prepare(model, optimizer)
        if not self.zero and self.accelerator.scaler is None:
            # accelerate's wrapper looks for a package on the disk at each step. Only ZeRO and the
            # loss scale of fp16 need the wrapper.
            optimizer = optimizer.optimizer  # type: ignore[attr-defined]
        if self.zero and self.config.precision == "fp16":
            # DeepSpeed would raise an Exception without a remedy; training stops with one.
            self.scaler(optimizer).raise_error_at_min_scale = False
        return model, optimizer

    def scaler(self, optimizer: torch.optim.Optimizer) -> Any:
        """What searches for fp16's loss scale, torch's or DeepSpeed's; None at other precisions."""
        if self.config.precision != "fp16":
            return None
        if self.zero:
            return optimizer.optimizer.loss_scaler  # type: ignore[attr-defined]
        return self.accelerator.scaler

    def once_a_node(self, action: Callable[[], None]) -> None:
        """`action()` on one rank of each node while the others wait; its error is one on all."""
        self.together(lambda: action() if launcher.local_rank() == 0 else None)

    def accumulate(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Around each micro-batch: gradients are exchanged at the window's last one only."""
        return self.accelerator.accumulate(model)

    def backward_without_step(self, model: torch.nn.Module, loss: torch.Tensor) -> None:
        """Add the gradients of `loss` to those that are there; under ZeRO nothing is stepped."""
        if self.zero:
            # accelerate would let DeepSpeed take the step. Short of a window's end it only adds the
            # gradients up, and zeros change none of those that follow.
            model.set_gradient_accumulation_boundary(False)  # type: ignore[operator]
            model.backward(loss)  # type: ignore[operator]
        else:
            self.accelerator.backward(loss)

    @property
    def stop_requested(self) -> bool:
        """Whether this rank was asked to save and end."""
        return launcher.stop_requested()


@contextmanager
def library_remarks_hidden() -> Iterator[None]:
    """Hide what libraries print at their start and a user can do nothing about."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        yield
    # A dimension of size 1 has any stride: the first convolution's, in channels-last.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
