"""Training, in the order in which it happens: set up, loop over steps, evaluate."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from emo.config import ExperimentConfig
from emo.data.loader import Loader
from emo.data.plan import Share, check_slices
from emo.data.source import Batch, check_skipped
from emo.data.steps import TrainingSteps, trace_of
from emo.distributed.collectives import Votes
from emo.distributed.environment import launched, network
from emo.distributed.runtime import Runtime
from emo.distributed.state import update_average
from emo.evaluation.evaluate import finish
from emo.evaluation.outputs import StopRequested, correction, fetch
from emo.models.losses.objective import MASS_UNIT
from emo.runs import checkpoint, files, random_state
from emo.runs.banner import banner
from emo.runs.checkpoint import Progress
from emo.runs.experiment import Experiment
from emo.runs.finished import set_results_aside
from emo.runs.folder import open_run
from emo.runs.record import record
from emo.runs.run import Run
from emo.runs.tracking.gauges import Gauges
from emo.runs.tracking.others import check_installed
from emo.runs.tracking.tracker import Tracker
from emo.training import optim
from emo.training.config import check_skipping
from emo.training.epoch_end.validate import end_epoch, out_of_patience
from emo.training.pace import Clock, Pace
from emo.training.saver import Saver
from emo.training.step import check_loss_scale, train_step
from emo.training.warm_up import warm_up
from emo.watching.settings import describe_launch
from emo.watching.trace import Trace
from shards import atomic
from shards.errors import UserError

Outcome = Literal["done", "preempted", "out of time"]


class NonFiniteLoss(UserError):
    """Loss or gradient is not finite; the message states step, batch and gradient norms."""


def train(config: ExperimentConfig) -> Outcome:
    """Train, select on validation, evaluate; every launched process calls this.

    Returns:
        "done"; or "preempted" or "out of time", when a checkpoint was saved to go on from.

    Raises:
        UserError: anything that the user can correct; before training starts, where possible.
    """
    started = time.monotonic()
    settings = config.train
    asked = launched.running(config.runtime)
    check_skipping(settings, asked.strategy)
    check_installed(config.tracking)
    world = asked.processes
    micro_batch = check_slices(
        settings.global_batch, world, settings.accumulation, config.data.augment.together
    )
    runtime = Runtime.start(
        config.runtime,
        accumulation=settings.accumulation,
        micro_batch=micro_batch,
        clip=config.optim.clip or 0.0,
        folder=config.run,
    )
    config = config.model_copy(update={"runtime": runtime.config})  # what ran is what is recorded
    with open_run(runtime, config) as resumable:
        network.make_traces(config.run)
        experiment = Experiment.build(runtime, config)
        optimizer = optim.build_optimizer(experiment.model, config.optim, config.runtime.offload)
        model, optimizer = runtime.prepare(experiment.model, optimizer)
        warm_up(runtime, experiment, model, optimizer)  # before random states: it draws from them
        progress = Progress(step=0, data=experiment.plan.start())
        # The order matters. The first weights were drawn above, from one seed on all ranks; from
        # here on each rank draws its own dropout. A checkpoint's random state replaces this one,
        # so nothing between there and the first step may draw a number.
        random_state.seed_rank(settings.seed, 0, runtime.rank)
        if resumable is not None:
            progress = checkpoint.restore(runtime, resumable, model, optimizer, settings.seed)
            progress = replace(progress, data=experiment.plan.resume(progress.data))
        to = config.tracking
        tracker = Tracker(config.run, main=runtime.main, step=progress.step, to=to)
        run = Run(runtime, experiment, model, tracker, optimizer)
        correction(run)  # raises for classes that are not the run's: now, not after an epoch
        what = banner(run, progress)
        tracker.say(what)
        if runtime.main:
            record(run)
            describe_launch(run, what)
        runtime.wait_at_most(config.runtime.timeout_seconds)  # all is started, all is compiled
        saver = Saver(run)
        try:
            outcome = loop(run, saver, progress, started)
            if outcome == "done":
                finish(run)
        except StopRequested:  # everything was saved before the last evaluation
            return "preempted"
        finally:
            saver.close()
            tracker.close()
    return outcome


def loop(run: Run, saver: Saver, progress: Progress, started: float) -> Outcome:
    """Take optimizer steps until the last epoch ends, a signal comes, or the time is over."""
    runtime, experiment, config, tracker = run.runtime, run.experiment, run.config, run.tracker
    model, optimizer = run.model, run.optimizer
    assert optimizer is not None
    settings, plan = config.train, experiment.plan
    steps = TrainingSteps(
        experiment.samples,
        experiment.rows,
        plan,
        progress.data,
        epochs=settings.epochs,
        share=Share(runtime.world, runtime.rank, settings.accumulation),
    )
    total = progress.step + len(steps)
    if len(steps):
        # The result of a finished run that now trains further: while it is there, the run counts as
        # finished, also when this launch is stopped.
        runtime.main_decides(partial(set_results_aside, config.run))
    pin = runtime.device.type == "cuda"
    batches = iter(Loader(steps, range(len(steps)), workers=config.data.workers, pin=pin))

    def stopped(outcome: Outcome) -> Outcome:
        saver.save(progress)
        saver.finish()
        tracker.say(f"{outcome} at step {progress.step}: saved, run again with resume=auto")
        return outcome

    model.train()
    clock, pace, loss, overflows = Clock(), Pace(), math.nan, 0
    gauges, trace = Gauges(runtime.device, main=runtime.main), Trace(run)
    norms: deque[float] = deque(maxlen=6)
    for number in range(len(steps) + 1):
        # An epoch has just ended, or the checkpoint was saved between its end and its validation.
        if progress.data.epoch > progress.validated:
            saver.finish()  # validation forks its workers
            try:
                progress = end_epoch(run, progress, loss)
            except StopRequested:
                return stopped("preempted")
            saver.save(progress)
            model.train()
            clock, pace = Clock(), Pace()
        if number == len(steps) or out_of_patience(run, progress):
            break

        waiting = time.monotonic()
        micro, error = fetch(batches)
        clock.waited += time.monotonic() - waiting
        # No rank may leave the loop by itself: the others would wait for it in the next collective.
        # So errors, signals and the end of the time are put to the vote, and all ranks act on the
        # same sums.
        error = error or saver.error
        votes = runtime.vote(own_votes(run, micro, error, time.monotonic() - started))
        if votes.failed:
            runtime.fail_together(error)
        if votes.stop or votes.out_of_time:
            return stopped("preempted" if votes.stop else "out of time")
        progress = replace(progress, skipped=progress.skipped + votes.skipped)
        seen = (progress.step + 1) * progress.data.global_batch
        check_skipped(progress.skipped, seen, config.data)

        rates = optim.set_learning_rates(
            optimizer, progress.step, total, progress.data.epoch, config.optim, progress.rate
        )
        done = train_step(run, micro, votes.mass * MASS_UNIT)
        loss = done.loss
        norms.append(done.norm)
        overflows = overflows + 1 if done.overflowed else 0
        check_loss_scale(runtime, optimizer, overflows)
        if not done.applied and not done.overflowed:
            progress = replace(progress, bad_steps=progress.bad_steps + 1)
            rows = experiment.samples.rows_of(steps.global_units(number))
            facts = (progress, loss, list(norms), rows, experiment)
            runtime.main_decides(partial(explain_bad_step, *facts))
        if done.applied and settings.average is not None:
            taken = progress.step + 1
            decay = min(settings.average, (1 + taken) / (10 + taken))
            update_average(runtime, optimizer, decay)
        progress = count_step(progress, experiment, votes.trace)
        clock.samples += votes.valid
        trace.step(progress.step)

        epoch_ended = progress.data.consumed == 0
        if runtime.main and pace.is_due(votes.valid) and not epoch_ended:
            left = -(-(plan.units - progress.data.consumed) // progress.data.global_batch)
            counts = (plan.steps_per_epoch - left, plan.steps_per_epoch)
            tracker.say(f"epoch {progress.data.epoch + 1}: {pace.line(*counts, loss)}")
        if progress.step % settings.log_steps == 0 or epoch_ended:
            values = {"loss": loss, "gradient_norm": done.norm, **clock.rates()}
            values |= gauges.read() | {f"lr_{name}": rate for name, rate in rates.items()}
            tracker.write(progress.step, "train", values)
            clock = Clock()
        every = settings.checkpoint_steps
        if every and progress.step % every == 0 and not epoch_ended:  # at its end: after validation
            saver.save(progress)
    saver.finish()
    return "done"


def own_votes(run: Run, micro: list[Batch], error: Exception | None, seconds: float) -> Votes:
    """This rank's votes on a step, from its micro-batches, or the `error` that came instead.

    Args:
        seconds: time since the start of this launch.
    """
    limit = run.config.train.max_minutes
    counts, mass = torch.zeros(3, dtype=torch.int64), 0
    for batch in micro:
        assert batch.counts is not None, "batches of training are counted"
        counts += batch.counts
        mass += run.experiment.objective.mass(batch.target, batch.valid)
    valid, skipped, trace = counts.tolist()
    return Votes(
        valid=valid,
        mass=mass,
        skipped=skipped,
        trace=trace,
        failed=error is not None,
        stop=run.runtime.stop_requested,
        out_of_time=limit is not None and seconds / 60 > limit,
    )


def count_step(progress: Progress, experiment: Experiment, trace: int) -> Progress:
    """`progress` after one more step; at the end of an epoch, checks that each unit was used once.

    Raises:
        AssertionError: a unit was lost or used twice.
    """
    data = progress.data.advance(experiment.plan.units)
    progress = replace(progress, step=progress.step + 1, data=data, trace=progress.trace + trace)
    if data.consumed > 0:
        return progress
    # The sum of the traces over all steps and ranks depends on the set of units only. It differs if
    # the plan, its slices, the loader, a resumption or another number of ranks lost a unit or used
    # one twice, which no score would ever show.
    wanted = trace_of(np.repeat(experiment.rows, experiment.plan.visits(data.epoch - 1)))
    if progress.trace != wanted:
        raise AssertionError(
            f"epoch {data.epoch} did not use every sample exactly once: its trace is "
            f"{progress.trace}, wanted {wanted}"
        )
    return replace(progress, trace=0)


def explain_bad_step(
    progress: Progress,
    loss: float,
    norms: list[float],
    rows: np.ndarray,
    experiment: Experiment,
) -> None:
    """Raise NonFiniteLoss for a step that is not finite, unless it is one that may be left out.

    The utterances of the step are written to the run folder; the message has the first of them.

    Args:
        norms: gradient norms of the last steps; the last is this step's.
        rows: rows of the step's global batch, int64 [G].
    """
    config = experiment.config
    limit = config.train.max_nonfinite if config.train.nonfinite == "skip" else 0
    if progress.bad_steps <= limit:
        return
    names = experiment.dataset.column("utterance")[rows].tolist()
    step = progress.step + 1
    facts = {"step": step, "loss": loss, "gradient_norms": norms, "utterances": names}
    path = config.run / files.BAD_STEP
    atomic.write(path, json.dumps(facts, indent=1).encode())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more in {path}" if names[8:] else "")
    raise NonFiniteLoss(
        f"step {step} is not finite (loss {loss:.6g}, gradient norms up to it "
        f"{', '.join(f'{norm:.3g}' for norm in norms)}; {progress.bad_steps} such steps so far, "
        f"{limit} allowed). Its batch: {shown}. The last checkpoint is from before it; try a lower "
        f"optim.lr, optim.clip, or `emo-shards verify {experiment.dataset.folder} --deep`"
    )
