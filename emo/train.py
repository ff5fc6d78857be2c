"""Training, in the order in which it happens: set up, loop, evaluate."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from emo import checkpoint, optim, runfiles
from emo.checkpoint import Progress
from emo.config import ExperimentConfig
from emo.data import TrainingSteps, loader
from emo.evaluate import predict_part, report, scores, write_predictions
from emo.experiment import Experiment, open_run, record
from emo.losses import emotion_loss
from emo.plan import check_slices
from emo.runtime import Runtime
from emo.state import scatter_weights
from emo.trackers import Tracker
from shards import atomic
from shards.errors import UserError

Outcome = Literal["done", "preempted", "out of time"]


class NonFiniteLoss(UserError):
    """The loss is NaN or infinite; the message names the step, the batch and the gradient norm."""


class TooMuchDamage(UserError):
    """More samples were skipped as damaged than `data.max_skipped` allows."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did, the same on every rank; `applied` False: it was left out."""

    loss: float
    norm: float
    applied: bool


def train(config: ExperimentConfig) -> Outcome:
    """Train, select on validation, evaluate; every launched process calls this.

    Raises:
        UserError: anything the user can mend, before training where possible.
    """
    started = time.monotonic()
    settings = config.train
    world = config.runtime.processes
    micro_batch = check_slices(settings.global_batch, world, settings.accumulation)
    runtime = Runtime.start(
        config.runtime,
        accumulation=settings.accumulation,
        micro_batch=micro_batch,
        clip=config.optim.clip or 0.0,
    )
    runtime.watch_signals()
    with open_run(runtime, config) as resumable:
        experiment = Experiment.build(runtime, config)
        model, optimizer = runtime.prepare(
            experiment.model, optim.build_optimizer(experiment.model, config.optim)
        )
        progress = Progress(step=0, data=experiment.plan.start())
        checkpoint.seed_rank(settings.seed, 0, runtime.rank)
        if resumable is not None:
            progress = checkpoint.restore(runtime, resumable, model, optimizer, settings.seed)
            progress = replace(progress, data=experiment.plan.resume(progress.data))
        if runtime.main:
            record(config, experiment, runtime)
        tracker = Tracker(config.run, main=runtime.main, step=progress.step)
        tracker.say(banner(runtime, config, experiment, progress))
        try:
            outcome, progress = loop(
                runtime, config, experiment, model, optimizer, progress, tracker, started
            )
            if outcome == "done":
                finish(runtime, config, experiment, model, tracker)
        finally:
            tracker.close()
    return outcome


def loop(
    runtime: Runtime,
    config: ExperimentConfig,
    experiment: Experiment,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    tracker: Tracker,
    started: float,
) -> tuple[Outcome, Progress]:
    """Optimizer steps until the last epoch's end, a signal, or the end of the time."""
    settings, plan = config.train, experiment.plan
    steps = TrainingSteps(
        experiment.samples,
        experiment.rows,
        plan,
        progress.data,
        epochs=settings.epochs,
        world=runtime.world,
        rank=runtime.rank,
        accumulation=settings.accumulation,
    )
    total = progress.step + len(steps)
    pin = runtime.device.type == "cuda"
    batches = iter(loader(steps, range(len(steps)), workers=config.data.workers, pin=pin))
    folder = runfiles.checkpoints(config.run)
    clock = Clock()
    model.train()
    for number in range(len(steps)):
        with clock.waiting():
            micro, error = fetch(batches)
        out_of_time = (
            settings.max_minutes is not None
            and time.monotonic() - started > 60 * settings.max_minutes
        )
        valid, skipped, failed, stops, timeouts = runtime.agree(
            sum(int(b["valid"].sum()) for b in micro),
            sum(int(b["skipped"].sum()) for b in micro),
            error is not None,
            runtime.stop_requested,
            out_of_time,
        )
        if failed:
            runtime.fail_together(error)
        if stops or timeouts:
            checkpoint.save(runtime, folder, progress, model, optimizer, keep=settings.keep)
            outcome: Outcome = "preempted" if stops else "out of time"
            tracker.say(f"{outcome} at step {progress.step}: saved, run again with resume=auto")
            return outcome, progress
        progress = replace(progress, skipped=progress.skipped + int(skipped))
        check_damage(progress, config)

        rates = optim.set_learning_rates(
            optimizer, progress.step, total, progress.data.epoch, config.optim
        )
        done = train_step(runtime, model, optimizer, micro, int(valid), config)
        if not done.applied:
            progress = replace(progress, bad_steps=progress.bad_steps + 1)
            explain_bad_step(progress, done, steps.global_rows(number), experiment, config)
        progress = replace(progress, step=progress.step + 1, data=progress.data.advance(plan.units))
        clock.step(int(valid))

        epoch_ended = progress.data.consumed == 0
        if progress.step % settings.log_steps == 0 or epoch_ended:
            values = {"loss": done.loss, "gradient_norm": done.norm, **clock.rates()}
            values |= {f"lr_{name}": rate for name, rate in rates.items()}
            tracker.write(progress.step, "train", values)
            clock = Clock()
        if epoch_ended:
            progress = end_epoch(runtime, config, experiment, model, progress, tracker, done)
            checkpoint.save(runtime, folder, progress, model, optimizer, keep=settings.keep)
            if runtime.main and progress.best_step == progress.step:
                assert progress.best is not None
                checkpoint.mark_best(folder, progress.step, progress.best)
            model.train()
            clock = Clock()
        elif settings.checkpoint_steps and progress.step % settings.checkpoint_steps == 0:
            checkpoint.save(runtime, folder, progress, model, optimizer, keep=settings.keep)
    return "done", progress


def train_step(
    runtime: Runtime,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    micro: list[dict[str, Tensor]],
    valid: int,
    config: ExperimentConfig,
) -> StepReport:
    """One optimizer step over this rank's micro-batches.

    The loss is the sum over valid rows divided by `valid`, their number in the *global* batch.
    Strategies average gradients over ranks and accumulation steps; both are multiplied back.
    """
    scale = runtime.world * config.train.accumulation / max(1, valid)
    total = torch.zeros((), device=runtime.device, dtype=torch.float64)
    for number, batch in enumerate(micro):
        batch = runtime.to_device(batch)
        with runtime.accumulate(model):
            loss = emotion_loss(
                model(batch),
                batch["target"],
                batch["valid"],
                smoothing=config.train.label_smoothing,
            )
            total += loss.detach()
            last = number == len(micro) - 1
            if runtime.zero and last:  # DeepSpeed steps inside backward: look before it
                [bad] = runtime.agree(not math.isfinite(total.item()))
                if bad:
                    return StepReport(loss=math.nan, norm=math.nan, applied=False)
            runtime.accelerator.backward(loss * scale)
    norm = gradient_norm(runtime, model, config.optim.clip)
    # `.item()` waits for the device, once a step: a step that must not happen is never taken.
    [summed] = runtime.agree(total.item())
    applied = runtime.zero or math.isfinite(norm) or may_overflow(runtime, summed)
    if applied:
        optimizer.step()
    optimizer.zero_grad()
    return StepReport(loss=summed / max(1, valid), norm=norm, applied=applied)


def gradient_norm(runtime: Runtime, model: nn.Module, clip: float | None) -> float:
    """The norm of the whole gradient before it is clipped to `clip`."""
    if runtime.zero:
        norm = model.get_global_grad_norm()  # type: ignore[operator]
        return float(norm) if norm is not None else math.nan
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = runtime.accelerator.clip_grad_norm_(trained, math.inf if clip is None else clip)
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    return float(norm)


def may_overflow(runtime: Runtime, loss: float) -> bool:
    """Whether infinite gradients are part of fp16's search for its loss scale."""
    return runtime.config.precision == "fp16" and math.isfinite(loss)


def fetch(
    batches: Iterator[list[dict[str, Tensor]]],
) -> tuple[list[dict[str, Tensor]], Exception | None]:
    """The next micro-batches, or the error instead: every rank must learn of it first."""
    try:
        return next(batches), None
    except Exception as error:
        return [], error


def check_damage(progress: Progress, config: ExperimentConfig) -> None:
    """Stop when more was skipped than allowed; a first damaged sample is always forgiven."""
    seen = (progress.step + 1) * progress.data.global_batch
    if progress.skipped > max(1, config.data.max_skipped * seen):
        raise TooMuchDamage(
            f"{progress.skipped} of {seen} samples were damaged and skipped, more than "
            f"data.max_skipped={config.data.max_skipped} allows; run `emo-shards verify "
            f"{config.data.shards} --deep`, which names them and says how to repair them"
        )


def explain_bad_step(
    progress: Progress,
    done: StepReport,
    rows: np.ndarray,
    experiment: Experiment,
    config: ExperimentConfig,
) -> None:
    """Count a step whose loss was not finite; stop where none, or no more, is allowed."""
    limit = config.train.max_nonfinite if config.train.nonfinite == "skip" else 0
    if progress.bad_steps <= limit:
        return
    names = experiment.dataset.column("utterance")[experiment.samples.rows_of(rows)]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise NonFiniteLoss(
        f"step {progress.step + 1} is not finite (loss {done.loss}, gradient norm {done.norm}; "
        f"{progress.bad_steps} such steps so far, {limit} allowed). Its batch: {shown}. The last "
        "checkpoint is from before it; try a lower optim.lr, optim.clip, or `emo-shards verify "
        f"{config.data.shards} --deep`"
    )


def end_epoch(
    runtime: Runtime,
    config: ExperimentConfig,
    experiment: Experiment,
    model: nn.Module,
    progress: Progress,
    tracker: Tracker,
    done: StepReport,
) -> Progress:
    """Validate, log, and note whether this is the best epoch so far."""
    found = predict_part(runtime, model, experiment.samples, experiment.view.val, config)
    values = scores(found, experiment.view)
    tracker.write(progress.step, "val", values)
    score = -values["loss"] if config.train.select == "loss" else values[config.train.select]
    best = progress.best is None or score > progress.best
    tracker.say(
        f"epoch {progress.data.epoch}/{config.train.epochs} · step {progress.step} · loss "
        f"{done.loss:.3f} · validation WA {100 * values['wa']:.1f} UA {100 * values['ua']:.1f} F1 "
        f"{100 * values['f1']:.1f} loss {values['loss']:.3f}" + (" · best" if best else "")
    )
    return replace(progress, best=score, best_step=progress.step) if best else progress


def finish(
    runtime: Runtime,
    config: ExperimentConfig,
    experiment: Experiment,
    model: nn.Module,
    tracker: Tracker,
) -> None:
    """Evaluate the checkpoint that validation chose, on validation and test, and write it down."""
    chosen = checkpoint.best(runfiles.checkpoints(config.run))
    scatter_weights(runtime, model, checkpoint.read_weights(chosen))
    parts: dict[str, Any] = {}
    for part, rows in (("val", experiment.view.val), ("test", experiment.view.test)):
        found = predict_part(runtime, model, experiment.samples, rows, config)
        if runtime.main:
            parts[part] = report(found, experiment.view, experiment.dataset)
            write_predictions(config.run, part, found, experiment.dataset, experiment.view)
    if runtime.main:
        summary = experiment.facts() | {"checkpoint": chosen.name, "parts": parts}
        atomic.write(runfiles.metrics(config.run), (json.dumps(summary, indent=1) + "\n").encode())
        test = parts["test"]
        low, high = test["interval_95"]["wa"]
        tracker.say(
            f"test ({test['n']} utterances, {chosen.name}): WA {100 * test['wa']:.1f} "
            f"[{100 * low:.1f}, {100 * high:.1f}] UA {100 * test['ua']:.1f} weighted F1 "
            f"{100 * test['weighted_f1']:.1f} → {runfiles.metrics(config.run)}"
        )
    runtime.barrier()


class Clock:
    """Samples a second and the share of time spent waiting for data, since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._waited = 0.0
        self._samples = 0

    def waiting(self) -> Clock:
        return self

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._waited += time.monotonic() - self._entered

    def step(self, samples: int) -> None:
        self._samples += samples

    def rates(self) -> dict[str, float]:
        elapsed = max(1e-9, time.monotonic() - self._start)
        return {
            "samples_per_second": self._samples / elapsed,
            "data_wait_share": self._waited / elapsed,
        }


def banner(
    runtime: Runtime, config: ExperimentConfig, experiment: Experiment, progress: Progress
) -> str:
    """Five lines: where it runs, what is trained, on what, how, and where it is written."""
    settings, view = config.train, experiment.view
    return runtime.banner(
        [
            f"model {config.name}: {' + '.join(config.model.children())}"
            + (f", frozen {' + '.join(config.model.freeze)}" if config.model.freeze else "")
            + f" · {experiment.parameters:,} trained parameters",
            f"data {config.data.shards} ({experiment.dataset.manifest.dataset_hash[:12]}) · "
            f"{view.name} · {len(experiment.rows)} training "
            f"{'dialogues' if config.model.context else 'rows'}, {len(view.val)} validation, "
            f"{len(view.test)} test",
            f"global batch {settings.global_batch} = {runtime.world} × {settings.accumulation} × "
            f"{settings.global_batch // runtime.world // settings.accumulation} · "
            f"{settings.epochs} epochs of {experiment.plan.steps_per_epoch} steps · order "
            f"{config.data.plan.order} · seed {settings.seed}",
            f"run {config.run}"
            + (f" · resumed at step {progress.step}" if progress.step else " · from the start"),
        ]
    )
