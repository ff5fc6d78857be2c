"""Training programs, each in its own process, that take turns: a piece of an epoch each.

So other work on the machine slows all of them alike, and the memory of each can be measured.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from table import resident  # this folder's
from torch import nn

from emo.config import ExperimentConfig
from emo.data.plan import Plan
from emo.runs.experiment import Experiment

PIECE = 10  # steps in a turn, about; a multiple of train.log_steps
CUDA = torch.cuda.is_available()


class Turns:
    """One program's end of the pipe: it works only when it is its turn."""

    def __init__(self, pipe: Connection, experiment: Experiment, epochs: int) -> None:
        self.pipe, self.plan, self.begun, self.memory = pipe, experiment.plan, 0, (0.0, 0.0)
        self.ends = piece_ends(self.plan.steps_per_epoch, epochs)
        weights = hashlib.sha256()
        for tensor in experiment.model.state_dict().values():
            weights.update(tensor.detach().cpu().numpy().tobytes())
        pipe.send(weights.hexdigest())

    def wait(self) -> None:
        assert self.pipe.recv() == "go"

    def give(self, step: int, seconds: float, cpu: float, waited: float = 0.0) -> None:
        """Report the piece that ended with optimizer step `step`; the turn is over."""
        samples = consumed(self.plan, step) - consumed(self.plan, self.begun)
        self.begun = step
        self.memory = max(self.memory, peak_memory())
        piece = {"seconds": seconds, "cpu": cpu, "samples": samples, "waited": waited}
        self.pipe.send({"step": step, **piece})

    def end(self, module: nn.Module, file: Path) -> None:
        """The last message: the trained weights go to `file`, the peak memory (MB) to the pipe."""
        save_file({name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()},
                  file)  # fmt: skip
        self.pipe.send({"memory": self.memory})


def piece_ends(steps_per_epoch: int, epochs: int) -> list[int]:
    """Optimizer steps after which a turn ends: every PIECE, and where an epoch ends."""
    ends = []
    for step in range(1, steps_per_epoch * epochs + 1):
        inside = (step - 1) % steps_per_epoch + 1
        near_an_end = min(inside, steps_per_epoch - inside) < PIECE // 2
        if inside == steps_per_epoch or (step % PIECE == 0 and not near_an_end):
            ends.append(step)
    return ends


def consumed(plan: Plan, step: int) -> int:
    """Samples of the first `step` steps."""
    epochs, inside = divmod(step, plan.steps_per_epoch)
    return epochs * plan.units + min(plan.units, inside * plan.global_batch)


def peak_memory() -> tuple[float, float]:
    """MB: the most this process held (of a GPU's memory, if it has one), and its workers' now."""
    if CUDA:
        return torch.cuda.max_memory_allocated() / 1e6, 0.0
    own = 0
    for child in active_children():
        rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
        own += sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))
    return resident("VmHWM"), own / 1000


def finish_work() -> float:
    """The time, once the device has finished its work."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


Contestant = Callable[[Connection, ExperimentConfig, Path], Any]


def race(contestants: dict[str, Contestant], config: ExperimentConfig, folder: Path) -> dict:
    """Run all of them to their ends, in turns; by name: `pieces`, `memory` (MB) and `weights`."""
    context = get_context("spawn")
    pipes, processes = {}, []
    for name, contestant in contestants.items():
        pipes[name], other = context.Pipe()
        own = config.model_copy(update={"run": folder / name})
        arguments = (other, own, folder / f"{name}.safetensors")
        processes.append(context.Process(target=contestant, args=arguments))
        processes[-1].start()
        other.close()
    assert len({pipe.recv() for pipe in pipes.values()}) == 1, "not the same first weights"
    results: dict[str, dict] = {name: {"pieces": []} for name in pipes}
    waiting = dict(pipes)
    while waiting:
        for name, pipe in list(waiting.items()):
            pipe.send("go")
            message = pipe.recv()
            if "memory" in message:
                results[name] |= message | {"weights": folder / f"{name}.safetensors"}
                del waiting[name]
            else:
                results[name]["pieces"].append(message)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return results
