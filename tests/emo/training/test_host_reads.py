"""How often a training step makes the host wait for the device, counted on a CPU.

A dispatch mode sees every operation. Those that need a tensor's value in Python, or whose result's
shape depends on values, would wait for a GPU.
"""

from __future__ import annotations

import traceback
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emo.config import ExperimentConfig
from emo.data.normalise.base import Moments, model_input
from emo.data.normalise.train import TrainStatistics
from emo.data.source import Batch
from emo.distributed.runtime import Runtime
from emo.models.losses.objective import Objective
from emo.models.model import EmotionModel
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from emo.training.optim import build_optimizer
from emo.training.step import train_step
from shards.configfile import parse

WAITS = {
    "aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.masked_select", "aten.equal",
    "aten.is_nonzero", "aten.unique_dim", "aten._unique2", "aten.bincount",
}  # fmt: skip
# What each may read: the loss, the gradient's norm, and whether attention can do without a mask.
READS = {"text": 3, "audio": 2, "fusion": 3}


class Reads(TorchDispatchMode):
    """The lines of Python that read a value, innermost first."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = str(function).rsplit(".", 1)[0]
        if name in WAITS:
            frames = [f for f in traceback.extract_stack() if "torch/" not in f.filename]
            where = f"{frames[-2].filename}:{frames[-2].lineno}"
            if "emo/distributed/collectives.py" not in where:  # its tensors are on the CPU always
                self.lines.append(f"{name} at {where}")
        return function(*args, **(kwargs or {}))


@pytest.fixture
def started(make_settings: Any, tmp_path: Any) -> Any:
    """`started(model)`: a run of that model, and a batch for it with padding in every line."""

    def start(kind: str) -> tuple[Run, Batch]:
        raw = make_settings(tmp_path, tmp_path / "run")
        if kind != "fusion":
            raw["model"] = {kind: raw["model"][kind]}
        config = parse(ExperimentConfig, raw, "the test")
        runtime = Runtime.start(config.runtime, accumulation=1, micro_batch=4, clip=1.0)
        made = EmotionModel(config.model, classes=4, sizes={"text": 100, "audio": 16})
        model, optimizer = runtime.prepare(made, build_optimizer(made, config.optim))
        statistics = TrainStatistics(Moments(np.zeros(16, "f4"), np.ones(16, "f4"), 1))

        def to_model(batch: Batch, *_: Any) -> dict[str, torch.Tensor]:
            audio = model_input(batch.inputs["audio"], batch.inputs["audio_mask"], statistics)
            return batch.inputs | {"audio": audio}

        batch = Batch(
            row=torch.arange(4),
            valid=torch.ones(4, dtype=torch.bool),
            skipped=torch.zeros(4, dtype=torch.int64),
            target=torch.eye(4),
            inputs={
                "tokens": torch.randint(100, (4, 9)),
                "token_mask": torch.arange(9) < torch.tensor([[9], [5], [4], [8]]),
                "audio": torch.randn(4, 20, 16),
                "audio_mask": torch.arange(20) < torch.tensor([[20], [15], [14], [18]]),
            },
        )
        objective = Objective.plain(("a", "b", "c", "d"))
        setting: Any = SimpleNamespace(
            config=config, objective=objective, samples=SimpleNamespace(to_model=to_model)
        )
        return Run(
            runtime, setting, model, Tracker(config.run, main=False, step=0), optimizer
        ), batch

    return start


@pytest.mark.parametrize("kind", list(READS))
def test_a_step_reads_no_more_than_it_must(started: Any, kind: str) -> None:
    run, batch = started(kind)
    train_step(run, [batch], 4)  # the first one makes the optimizer's state
    with Reads() as reads:
        assert train_step(run, [batch], 4).applied
    assert reads.lines, "the step must look at its loss: the test does not see what it counts"
    assert len(reads.lines) <= READS[kind], "\n".join(reads.lines)


def test_the_statistics_are_copied_to_a_device_once() -> None:
    statistics = TrainStatistics(Moments(np.ones(3, "f4"), np.full(3, 2.0, "f4"), 1))
    mask = torch.ones(2, 5, dtype=torch.bool)
    first = statistics.normalise(torch.full((2, 5, 3), 5.0), mask)
    kept = statistics._on(torch.device("cpu"))
    assert torch.equal(first, torch.full((2, 5, 3), 2.0))
    statistics.normalise(torch.zeros(2, 5, 3), mask)
    assert all(a is b for a, b in zip(kept, statistics._on(torch.device("cpu")), strict=True))
    assert not statistics.__getstate__()["_copies"]
