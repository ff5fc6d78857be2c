"""One optimizer step: micro-batches, gradient, and the decision whether to apply it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from emo.data.source import Batch
from emo.distributed.collectives import lost_ranks_named
from emo.distributed.runtime import Runtime
from emo.distributed.state import loss_scale
from emo.runs.run import Run
from emo.training import whole_batch
from shards.errors import UserError

OVERFLOWS = 20  # in a row: fp16's scale starts at 65,536 and would be far below 1


class LossScaleLost(UserError):
    """fp16 found no loss scale at which the gradients are finite."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did, the same on every rank.

    Attributes:
        loss: the mean over the global batch's valid rows, and the terms over all of it.
        norm: of the whole gradient, before it was clipped.
        applied: whether the weights moved.
        overflowed: the weights did not move because fp16's loss scale was still too high. That is a
            normal step of the search for the scale.
    """

    loss: float
    norm: float
    applied: bool
    overflowed: bool = False


@lost_ranks_named()
def train_step(run: Run, micro: list[Batch], divisor: float) -> StepReport:
    """One optimizer step over this rank's micro-batches.

    The loss is the sum over valid rows, divided by `divisor`, their number (or the sum of their
    weights) in the *global* batch. Strategies average gradients over ranks and accumulation steps;
    `undone` and `scale` undo both.
    """
    runtime, config, optimizer = run.runtime, run.config, run.optimizer
    assert optimizer is not None
    objective = run.experiment.objective
    divisor = divisor or 1  # of a batch in which nothing counts
    undone = runtime.world * config.train.accumulation
    scale = undone / divisor
    whole, ahead = 0.0, None
    if objective.whole and len(micro) > 1:
        whole, ahead = whole_batch.pulls(run, whole_batch.outputs_before(run, micro), micro)
    total = torch.zeros((), device=runtime.device, dtype=torch.float64)
    for number, batch in enumerate(micro):
        inputs = run.samples.to_model(batch, runtime.device, runtime.dtype)
        target = batch.target.to(runtime.device, non_blocking=True)
        counted = batch.valid.to(runtime.device, non_blocking=True)
        allowed = batch.allowed
        if allowed is not None:
            allowed = allowed.to(runtime.device, non_blocking=True)
        with runtime.accumulate(run.model):
            outputs = objective.ask(run.model, inputs)
            loss = objective.of_rows(outputs, target, counted, allowed)
            total += loss.detach()
            scaled = loss * scale
            if objective.whole:
                if ahead is None:
                    whole, ahead = whole_batch.pulls(run, [outputs], micro)
                scaled = scaled + whole_batch.pulled(outputs, ahead[number], counted) * undone
            last = number == len(micro) - 1
            # DeepSpeed takes the step inside `backward`, so the loss must be checked before it.
            if runtime.zero and last and runtime.any(not math.isfinite(total.item())):
                return StepReport(loss=math.nan, norm=math.nan, applied=False)
            runtime.accelerator.backward(scaled)
    norm = gradient_norm(run)
    # `.item()` waits for the device. That is once a step, and the price for never applying a step
    # that is not finite.
    summed = runtime.total(total.item())
    applied = math.isfinite(norm)
    overflowed = not applied and math.isfinite(summed) and runtime.config.precision == "fp16"
    scaler = runtime.accelerator.scaler
    if applied or overflowed:
        # After an overflow torch's scaler leaves the step out, and lowers its scale. Under ZeRO
        # this does nothing: backward took the step, or left it out by itself.
        optimizer.step()
    elif scaler is not None:
        scaler.update()  # without this it refuses to unscale the gradients of the next step
    optimizer.zero_grad()
    return StepReport(
        loss=summed / divisor + whole, norm=norm, applied=applied, overflowed=overflowed
    )


def gradient_norm(run: Run) -> float:
    """The norm of the whole gradient, before it is clipped to `optim.clip`."""
    if run.runtime.zero:
        # Of the step that backward has just taken, clipping included, or left out: then it is inf.
        norm = run.model.get_global_grad_norm()  # type: ignore[operator]
        return float(norm) if norm is not None else math.nan
    # accelerate's own clipping unscales twice where a part of the model is frozen under FSDP, which
    # torch's scaler refuses.
    run.runtime.accelerator.unscale_gradients()
    norm = get_total_norm([p.grad for p in run.trained if p.grad is not None])
    if run.config.optim.clip is not None:
        clip_grads_with_norm_(run.trained, run.config.optim.clip, norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def check_loss_scale(runtime: Runtime, optimizer: Any, overflows: int) -> None:
    """Raise LossScaleLost after `OVERFLOWS` steps in a row that overflowed, or a scale below 1.

    Without this a model whose gradients are infinite at any scale would train to its end, and never
    move.
    """
    if overflows == 0:
        return  # the scale is on the device: reading it would wait there at every step
    scale = (loss_scale(runtime.scaler(optimizer)) or {})["scale"]
    if overflows >= OVERFLOWS or scale < 1:
        raise LossScaleLost(
            f"precision fp16: the gradients overflowed in {overflows} steps in a row, in which no "
            f"weight moved, and the loss scale has fallen to {scale:g}. Use runtime.precision=bf16,"
            " a lower optim.lr, or optim.clip"
        )
