"""fp16's steps, on a CPU: the search for a loss scale, steps left out, and a part that is frozen.

The same GradScaler and the same accelerate as on a GPU. Only what accelerate says of a CPU is set
to what it says of a GPU: that it has fp16.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from emo.data.source import Batch
from emo.distributed.runtime import Runtime
from emo.models.losses.objective import Objective
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from emo.training.step import OVERFLOWS, LossScaleLost, check_loss_scale, train_step


class Scores(nn.Module):
    """A model of two layers, whose first may be frozen; `factor` reaches its gradients only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.factor = 1.0

    def forward(self, inputs: dict[str, torch.Tensor], output: str) -> torch.Tensor:
        scores = self.second(self.first(inputs["x"]))
        if scores.requires_grad:
            scores.register_hook(lambda gradient: gradient * self.factor)
        return scores


@pytest.fixture
def start(tmp_path: Any) -> Any:
    """`start(clip, frozen)`: a run in fp16 whose optimizer is SGD at rate 1."""

    def make(clip: float | None = None, frozen: bool = False, precision: str = "fp16") -> Run:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        accelerator = Accelerator(cpu=True)
        if precision == "fp16":
            accelerator.state._mixed_precision = "fp16"
            accelerator.native_amp = True
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        torch.manual_seed(0)
        model = Scores()
        model.first.requires_grad_(not frozen)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        wrapped: Any = accelerator.prepare_optimizer(optimizer)
        config = SimpleNamespace(
            precision=precision, strategy="cpu", timeout_seconds=60, start_timeout_seconds=60
        )
        runtime = Runtime(config, accelerator)
        experiment: Any = SimpleNamespace(
            config=SimpleNamespace(
                model=SimpleNamespace(trained_on="logits"),
                train=SimpleNamespace(accumulation=1, label_smoothing=0.0),
                optim=SimpleNamespace(clip=clip),
            ),
            objective=Objective.plain(("one", "two")),
            samples=SimpleNamespace(to_model=lambda batch, device, dtype: batch.inputs),
        )
        return Run(runtime, experiment, model, Tracker(tmp_path, main=False, step=0), wrapped)

    yield make
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def batch_of(x: torch.Tensor) -> Batch:
    rows = len(x)
    return Batch(
        row=torch.arange(rows),
        valid=torch.ones(rows, dtype=torch.bool),
        skipped=torch.zeros(rows, dtype=torch.int64),
        target=torch.eye(2)[torch.arange(rows) % 2],
        inputs={"x": x},
    )


GOOD = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, -1.0]])


def step(run: Run, x: torch.Tensor = GOOD) -> Any:
    return train_step(run, [batch_of(x)], len(x))


def weights(run: Run) -> list[torch.Tensor]:
    return [p.detach().clone() for p in run.model.parameters()]


def test_an_overflow_is_no_step_and_lowers_the_scale(start: Any) -> None:
    run = start()
    before, run.model.factor = weights(run), math.inf
    done = step(run)
    assert math.isfinite(done.loss)
    assert (done.applied, done.overflowed) == (False, True)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run), strict=True))
    assert run.runtime.accelerator.scaler.get_scale() == 2.0**9
    run.model.factor = 1.0
    done = step(run)
    assert (done.applied, done.overflowed) == (True, False)
    assert not torch.equal(before[0], weights(run)[0])


def test_the_step_after_one_that_was_left_out_is_taken(start: Any) -> None:
    run = start()
    before = weights(run)
    done = step(run, GOOD * math.nan)
    assert (done.applied, done.overflowed) == (False, False)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run), strict=True))
    assert step(run).applied
    assert not torch.equal(before[0], weights(run)[0])


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_norm_and_the_step_are_those_without_a_scale(
    start: Any, clip: float | None, frozen: bool
) -> None:
    """Also where accelerate takes the strategy for FSDP, and a part is frozen."""
    found = []
    for precision in ("fp32", "fp16"):
        run = start(clip, frozen, precision)
        if precision == "fp16":
            run.runtime.accelerator.state.distributed_type = "FSDP"
        found.append((step(run).norm, weights(run)))
    (norm, wanted), (scaled, moved) = found
    assert scaled == pytest.approx(norm, rel=1e-6)
    assert norm > 0.1
    torch.testing.assert_close(moved, wanted)


def test_overflows_without_end_stop_the_run(start: Any) -> None:
    run = start()
    run.model.factor = math.inf
    for overflows in range(1, 11):  # from 2**10 down to 1
        assert step(run).overflowed
        check_loss_scale(run.runtime, run.optimizer, overflows)
    assert step(run).overflowed
    with pytest.raises(LossScaleLost, match=r"11 steps in a row.*fallen to 0\.5.*precision=bf16"):
        check_loss_scale(run.runtime, run.optimizer, 11)


def test_many_overflows_in_a_row_stop_the_run_at_any_scale(start: Any) -> None:
    run = start()
    check_loss_scale(run.runtime, run.optimizer, OVERFLOWS - 1)
    with pytest.raises(LossScaleLost):
        check_loss_scale(run.runtime, run.optimizer, OVERFLOWS)
