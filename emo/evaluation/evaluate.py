"""Exact evaluation: every utterance of a part once, under any strategy, and its written record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emo.config import Branch, ExperimentConfig
from emo.data.loader import Loader
from emo.data.samples import EvaluationSteps, Samples, check_skipped
from emo.distributed.runtime import Runtime
from emo.distributed.state import scatter_weights
from emo.evaluation import metrics
from emo.evaluation.agreement import agreement
from emo.evaluation.calibration import at_temperature, fit_temperature
from emo.models.losses import emotion_loss
from emo.models.model import KEYS
from emo.runs import checkpoint, files
from emo.runs.experiment import Experiment
from emo.runs.tracker import Tracker
from shards import atomic
from shards.errors import UserError
from shards.store.index import Dataset
from shards.views.view import View

ALONE: tuple[tuple[Branch, Branch], ...] = (("text", "audio"), ("audio", "text"))  # kept, lost


@dataclass(frozen=True)
class Predictions:
    """Of one part, in the order of `rows`: labels int [N], probabilities float64 [N, C]."""

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    loss: float
    skipped: int


class StopRequested(UserError):
    """A preemption came in the middle of an evaluation."""


def predict_part(
    runtime: Runtime,
    model: nn.Module,
    samples: Samples,
    rows: np.ndarray,
    config: ExperimentConfig,
    without: Branch | None = None,
) -> Predictions:
    """The model's class probabilities for `rows`; a collective, the result is on every rank.

    `without` takes a modality away from all of them, which only a fusion can do with.

    Raises:
        StopRequested: a rank was asked to stop; nothing is lost but this evaluation.
        TooMuchDamage: more samples were skipped than `data.max_skipped` allows.
    """
    seen, logits_NC, skipped = outputs_of(runtime, model, samples, rows, config, without)
    check_skipped(skipped, len(rows), config.data)
    logits = torch.from_numpy(logits_NC)
    target = torch.from_numpy(samples.targets[seen])
    loss = emotion_loss(logits, target, torch.ones(len(seen), dtype=torch.bool))
    return Predictions(
        rows=seen,
        labels=samples.labels[seen],
        probabilities=torch.softmax(logits, -1).numpy(),
        loss=float(loss) / max(1, len(seen)),
        skipped=skipped,
    )


@torch.no_grad()
def outputs_of(
    runtime: Runtime,
    model: nn.Module,
    samples: Samples,
    rows: np.ndarray,
    config: ExperimentConfig,
    without: Branch | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """What the model in evaluation mode gives for `rows`: a collective, the same on every rank.

    Every rank does the same number of steps, filled up with invalid rows: under ZeRO-3 and FSDP a
    forward pass is a collective. That no row is lost or doubled is asserted.

    Returns the rows that were seen, int64 [N] ascending, the outputs float64 [N, K] in their order,
    and how many rows were skipped as damaged.

    Raises:
        StopRequested: a rank was asked to stop.
    """
    steps = EvaluationSteps(
        samples,
        samples.units(rows),
        batch=config.train.evaluation_batch,
        world=runtime.world,
        rank=runtime.rank,
    )
    batches = Loader(
        steps,
        range(len(steps)),
        workers=config.data.workers,
        pin=runtime.device.type == "cuda",
    )
    model.eval()
    found = []
    source = iter(batches)
    for _ in range(len(steps)):
        batch, error = fetch(source)
        failed, stops = runtime.agree(error is not None, runtime.stop_requested)
        if failed:
            runtime.fail_together(error)
        if stops:
            raise StopRequested("asked to stop while evaluating")
        inputs = samples.to_model(batch, runtime.device, runtime.dtype)
        if without is not None:  # masked, not left out: under ZeRO-3 every child must be called
            mask = KEYS[without][1]
            inputs[mask] = torch.zeros_like(inputs[mask])
        table = model(inputs).double().cpu()
        state = torch.stack([batch["row"], batch["valid"], batch["skipped"]], 1)
        found.append(np.concatenate((state.double().numpy(), table.numpy()), 1))
    every = runtime.gather(np.concatenate(found)).reshape(-1, found[0].shape[1])
    skipped = int(every[:, 2].sum())
    every = every[every[:, 1] == 1]
    every = every[np.argsort(every[:, 0])]
    seen = every[:, 0].astype(np.int64)
    if len(seen) + skipped != len(rows) or len(np.unique(seen)) != len(seen):
        raise AssertionError(
            f"evaluation saw {len(seen)} rows ({len(np.unique(seen))} distinct, {skipped} skipped) "
            f"of {len(rows)}"
        )
    return seen, every[:, 3:], skipped


def fetch(source: Iterator[Any]) -> tuple[Any, Exception | None]:
    """The next item, or the error instead: every rank must learn of it before it goes on."""
    try:
        return next(source), None
    except Exception as error:  # a damaged sample, or a worker that died
        return [], error


def scores(predictions: Predictions, view: View) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers that selection and TensorBoard look at, and each class' recall by its name.

    A collapse onto few classes shows in the recalls first.
    """
    full = metrics.evaluate(predictions.labels, predictions.probabilities, view.label_set.classes)
    values = {
        "loss": predictions.loss,
        "wa": full["wa"],
        "ua": full["ua"],
        "f1": full["weighted_f1"],
    }
    return values, {name: row["recall"] for name, row in full["classes"].items()}


def report(
    predictions: Predictions, view: View, dataset: Dataset, temperature: float
) -> dict[str, Any]:
    """Everything about one part for `metrics.json`, intervals by 10,000 bootstrap resamples.

    `predictions` are at `temperature`; `ece_before` is the calibration error without it, and
    `loss` the model's own, as in training's log.
    """
    classes = view.label_set.classes
    full = metrics.evaluate(predictions.labels, predictions.probabilities, classes)
    before = at_temperature(predictions.probabilities, 1 / temperature)
    full["ece_before"] = metrics.expected_calibration_error(predictions.labels, before)
    predicted = predictions.probabilities.argmax(1)
    full["interval_95"] = metrics.bootstrap(predictions.labels, predicted, len(classes))
    full["loss"] = predictions.loss
    full["skipped"] = predictions.skipped
    votes = dataset.table["votes"].take(predictions.rows).to_pylist()
    full["agreement"] = agreement(votes, predictions.probabilities, view.label_set)
    return full


def report_alone(left: Predictions, both: Predictions, view: View) -> dict[str, Any]:
    """Scores of a fusion where one modality is `left`, and what that costs against `both`."""
    truth, said = left.labels, left.probabilities.argmax(1)
    cost = metrics.paired_difference(truth, said, both.probabilities.argmax(1))
    values, _ = scores(left, view)
    return values | {"wa_to_both": cost["difference"], "se": cost["se"]}


def confusion_table(part: dict[str, Any]) -> str:
    """The confusion matrix of a part in `metrics.json` as Markdown, with each class' recall."""
    names = part["labels"]
    lines = [
        f"| truth \\ predicted | {' | '.join(names)} | recall % |",
        "|---" * (len(names) + 2) + "|",
    ]
    for name, counts in zip(names, part["confusion"], strict=True):
        recall = 100 * part["classes"][name]["recall"]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {recall:.1f} |")
    return "\n".join(lines)


def write_predictions(
    run: Path, part: str, predictions: Predictions, dataset: Dataset, view: View
) -> None:
    """One line an utterance: id, dialogue, true class, and a probability for each class."""
    names, dialogues = dataset.column("utterance"), dataset.column("dialogue")
    classes = view.label_set.classes
    lines = []
    for row, label, table in zip(
        predictions.rows, predictions.labels, predictions.probabilities, strict=True
    ):
        line = {
            "utterance": names[row],
            "dialogue": dialogues[row],
            "label": classes[label],
            "probabilities": {c: round(float(p), 9) for c, p in zip(classes, table, strict=True)},
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    atomic.write(files.predictions(run, part), ("\n".join(lines) + "\n").encode())


def read_predictions(run: Path, part: str) -> list[dict[str, Any]]:
    """The lines that `write_predictions` wrote."""
    return [json.loads(line) for line in files.predictions(run, part).read_text().splitlines()]


def finish(
    runtime: Runtime,
    config: ExperimentConfig,
    experiment: Experiment,
    model: nn.Module,
    tracker: Tracker,
) -> None:
    """Evaluate the checkpoint that validation chose, on validation and test, and write it down.

    A temperature is fitted to validation first; all probabilities written are at it.
    """
    folder = files.checkpoints(config.run)
    chosen = folder / runtime.main_decides(lambda: checkpoint.best(folder).name)
    scatter_weights(runtime, model, checkpoint.read_weights(chosen))
    parts: dict[str, Any] = {}
    temperature = 1.0
    for part, rows in (("val", experiment.view.val), ("test", experiment.view.test)):
        found = predict_part(runtime, model, experiment.samples, rows, config)
        alone = {
            kept: predict_part(runtime, model, experiment.samples, rows, config, without=lost)
            for kept, lost in ALONE
            if config.model.fusion is not None
        }
        if part == "val":
            temperature = fit_temperature(found.labels, found.probabilities)
        if runtime.main:
            found = replace(found, probabilities=at_temperature(found.probabilities, temperature))
            parts[part] = report(found, experiment.view, experiment.dataset, temperature)
            if alone:
                parts[part]["alone"] = {
                    kept: report_alone(left, found, experiment.view) for kept, left in alone.items()
                }
            write_predictions(config.run, part, found, experiment.dataset, experiment.view)
    if runtime.main:
        summary = experiment.facts() | {
            "checkpoint": chosen.name, "temperature": temperature, "parts": parts,
        }  # fmt: skip
        atomic.write(files.metrics(config.run), (json.dumps(summary, indent=1) + "\n").encode())
        test = parts["test"]
        low, high = test["interval_95"]["wa"]
        step = int(chosen.name.removeprefix("step-"))
        tracker.describe("test/confusion", confusion_table(test), step)
        tracker.say(
            f"test ({test['n']} utterances, {chosen.name}): WA {100 * test['wa']:.1f} "
            f"[{100 * low:.1f}, {100 * high:.1f}] UA {100 * test['ua']:.1f} weighted F1 "
            f"{100 * test['weighted_f1']:.1f} → {files.metrics(config.run)}"
        )
        for kept, lost in ALONE if "alone" in test else ():
            left = test["alone"][kept]
            tracker.say(
                f"the same model without {lost}: WA {100 * left['wa']:.1f} "
                f"({100 * left['wa_to_both']:+.1f} ± {100 * left['se']:.1f})"
            )
    runtime.barrier()
