"""What happens when an epoch has ended: validation, and whether to go on."""

from __future__ import annotations

from dataclasses import replace

from emo.distributed.state import average_in_place
from emo.evaluation.outputs import correction, predict_part
from emo.evaluation.posthoc.prior import at_prior
from emo.evaluation.results import only_class, validation_scores, watched_attributes
from emo.metrics import improves, in_words, selection_score
from emo.runs.checkpoint import Progress
from emo.runs.run import Run
from emo.training import optim
from emo.training.epoch_end.closed_form import fit_head
from emo.watching.moment import Moment
from emo.watching.pictures.layers import show_layers
from emo.watching.watch import after_validation


def end_epoch(run: Run, progress: Progress, loss: float) -> Progress:
    """Validate, log, and note whether this is the best epoch so far."""
    config, view, tracker = run.config, run.experiment.view, run.tracker
    fit_head(run)
    with average_in_place(run.runtime, run.model, run.optimizer):
        predictions = predict_part(run, view.val)
    probabilities = at_prior(predictions.probabilities, correction(run))
    predictions = replace(predictions, probabilities=probabilities)
    values, recalls = validation_scores(predictions, view)
    groups = {"val": values, "val_recall": recalls} | watched_attributes(predictions)
    for group, numbers in groups.items():
        tracker.write(progress.step, group, numbers)
    if run.runtime.main:
        after_validation(Moment.of(run, "val", progress.step, predictions), progress.validated == 0)
    show_layers(run, progress.step)
    score, loss_now = selection_score(config.train.select, values), values["loss"]
    only = only_class(predictions, view)
    best = improves(score, loss_now, progress.best, progress.best_loss)
    tracker.say(
        f"epoch {progress.data.epoch}/{config.train.epochs} · step {progress.step} · loss "
        f"{loss:.3f} · validation {in_words(values)}"
        + (" · best" if best else "")
        + (f" · predicts only {only}" if only else "")
        + (f" · {progress.skipped} damaged samples skipped" if progress.skipped else "")
    )
    rate = optim.newbob(progress.rate, loss_now, progress.last_loss, config.optim)
    progress = replace(
        progress,
        validated=progress.data.epoch,
        stale=0 if best else progress.stale + 1,
        rate=rate,
        last_loss=loss_now,
    )
    if not best:
        return progress
    return replace(progress, best=score, best_loss=loss_now, best_step=progress.step)


def out_of_patience(run: Run, progress: Progress) -> bool:
    """Whether `train.patience` epochs have passed without a new best one; says so."""
    patience, epoch = run.config.train.patience, progress.data.epoch
    if patience is None or progress.stale < patience or progress.data.consumed:
        return False
    if epoch < run.config.train.epochs:
        run.tracker.say(
            f"no better epoch in the last {progress.stale}: training ends after epoch {epoch} "
            f"(train.patience={patience})"
        )
    return True
