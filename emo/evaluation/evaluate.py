"""Evaluation: every utterance of a part exactly once, under any strategy; writes the results."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from emo.distributed.state import scatter_weights
from emo.evaluation.attributes.scores import in_words as attributes_in_words
from emo.evaluation.outputs import Predictions, correction, each_alone, predict_part
from emo.evaluation.posthoc.calibration import at_temperature, fit_temperature
from emo.evaluation.posthoc.prior import at_prior
from emo.evaluation.predictions import write_predictions
from emo.evaluation.results import (
    confusion_table,
    one_modality_results,
    part_results,
    turn_predictions,
)
from emo.evaluation.vectors import embed
from emo.metrics import in_words
from emo.runs import checkpoint, files
from emo.runs.record import facts
from emo.runs.run import Run
from emo.watching.moment import Moment
from emo.watching.watch import after_training
from shards import atomic


def finish(run: Run) -> None:
    """Evaluate the checkpoint that validation chose on validation and test; write the results.

    A temperature is fitted to validation first, and applied to all probabilities that are written.
    """
    runtime, experiment, config, tracker = run.runtime, run.experiment, run.config, run.tracker
    folder = files.checkpoints(config.run)
    chosen = folder / runtime.main_decides(lambda: checkpoint.best(folder).name)
    scatter_weights(runtime, run.model, checkpoint.read_weights(chosen))
    parts: dict[str, Any] = {}
    shown: dict[str, Predictions] = {}  # on rank 0
    temperature, ratio_C = 1.0, correction(run)
    for part, rows in (("val", experiment.view.val), ("test", experiment.view.test)):
        predictions = predict_part(run, rows)
        alone = {
            kept: _corrected(predict_part(run, rows, without=lost), ratio_C)
            for kept, lost in each_alone(config.model).items()
        }
        if part == "val":
            places, vectors = embed(run, predictions)
            temperature = fit_temperature(predictions.labels, predictions.probabilities)
        if runtime.main:
            scaled = at_temperature(predictions.probabilities, temperature)
            before = at_prior(at_temperature(scaled, 1 / temperature), ratio_C)
            predictions = _corrected(replace(predictions, probabilities=scaled), ratio_C)
            parts[part] = part_results(predictions, before, experiment.view, experiment.dataset)
            if alone:
                parts[part]["alone"] = {
                    kept: one_modality_results(one, predictions, experiment.view)
                    for kept, one in alone.items()
                }
            shown[part] = predictions
            turns = turn_predictions(predictions, experiment.dataset, experiment.view)
            write_predictions(config.run, part, turns)
    if runtime.main:
        summary = facts(experiment) | {
            "checkpoint": chosen.name, "temperature": temperature,
            "prior": config.evaluation.prior, "parts": parts,
        }  # fmt: skip
        atomic.write(files.metrics(config.run), (json.dumps(summary, indent=1) + "\n").encode())
        test = parts["test"]
        low, high = test["interval_95"]["wa"]
        tracker.describe("test/confusion", confusion_table(test), tracker.after)
        result = Moment.of(run, "test", tracker.after, shown["test"])
        embedded = Moment.of(run, "val", tracker.after, shown["val"], places)
        after_training(result, parts, embedded, vectors)
        tracker.say(
            f"test ({test['n']} utterances, {chosen.name}): {in_words(test)}, WA's 95 % interval "
            f"[{100 * low:.1f}, {100 * high:.1f}] → {files.metrics(config.run)}"
        )
        for name, one in test.get("corpora", {}).items():
            tracker.say(f"test, {name} alone ({one['n']} utterances): {in_words(one)}")
        if "attributes" in test:
            tracker.say(f"test: {attributes_in_words(test['attributes'])}")
        for kept, lost in each_alone(config.model).items():
            result = test["alone"][kept]
            tracker.say(
                f"the same model without {' and '.join(lost)}: WA {100 * result['wa']:.1f} "
                f"({100 * result['wa_to_both']:+.1f} ± {100 * result['se']:.1f})"
            )
    # All ranks return together: on every one of them the files are there from here on.
    runtime.barrier()


def _corrected(predictions: Predictions, ratio_C: np.ndarray | None) -> Predictions:
    """`predictions` at the class shares that `evaluation.prior` asks for."""
    return replace(predictions, probabilities=at_prior(predictions.probabilities, ratio_C))
