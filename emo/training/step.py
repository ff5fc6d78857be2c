"""One optimizer step: micro-batches, gradient, and whether it may be applied."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from emo.data.source import Batch
from emo.distributed.collectives import lost_ranks_named
from emo.distributed.runtime import Runtime
from emo.models.losses import emotion_loss
from emo.runs.run import Run


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did, the same on every rank; `applied` False: it was left out."""

    loss: float
    norm: float
    applied: bool


@lost_ranks_named()
def train_step(run: Run, micro: list[Batch], valid: int) -> StepReport:
    """One optimizer step over this rank's micro-batches.

    The loss is the sum over valid rows divided by `valid`, their number in the *global* batch.
    Strategies average gradients over ranks and accumulation steps; both are multiplied back.
    """
    runtime, config, optimizer = run.runtime, run.config, run.optimizer
    assert optimizer is not None
    output = config.model.trained_on
    scale = runtime.world * config.train.accumulation / max(1, valid)
    total = torch.zeros((), device=runtime.device, dtype=torch.float64)
    for number, batch in enumerate(micro):
        inputs = run.samples.to_model(batch, runtime.device, runtime.dtype)
        target = batch.target.to(runtime.device, non_blocking=True)
        counted = batch.valid.to(runtime.device, non_blocking=True)
        with runtime.accumulate(run.model):
            loss = emotion_loss(
                run.model(inputs, output),
                target,
                counted,
                smoothing=config.train.label_smoothing,
                softmax=output == "scores",
            )
            total += loss.detach()
            last = number == len(micro) - 1
            # DeepSpeed takes the step inside backward: look before it.
            if runtime.zero and last and runtime.any(not math.isfinite(total.item())):
                return StepReport(loss=math.nan, norm=math.nan, applied=False)
            runtime.accelerator.backward(loss * scale)
    norm = gradient_norm(run)
    # `.item()` waits for the device, once a step: a step that must not happen is never taken.
    summed = runtime.total(total.item())
    applied = math.isfinite(norm) or may_overflow(runtime, summed)
    if applied:  # under ZeRO this does nothing: backward took the step, or left it out by itself
        optimizer.step()
    optimizer.zero_grad()
    return StepReport(loss=summed / max(1, valid), norm=norm, applied=applied)


def gradient_norm(run: Run) -> float:
    """The norm of the whole gradient, before it is clipped to `optim.clip`."""
    if run.runtime.zero:
        # Of the step that backward has just taken; clipping was part of it.
        norm = run.model.get_global_grad_norm()  # type: ignore[operator]
        return float(norm) if norm is not None else math.nan
    clip = math.inf if run.config.optim.clip is None else run.config.optim.clip
    norm = run.runtime.accelerator.clip_grad_norm_(run.trained, clip)
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    return float(norm)


def may_overflow(runtime: Runtime, loss: float) -> bool:
    """Whether infinite gradients are part of fp16's search for its loss scale."""
    return runtime.config.precision == "fp16" and math.isfinite(loss)
