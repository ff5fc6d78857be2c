"""`emo eval RUN --on SHARDS`: a trained run on other data; the results lie beside the run's own.

They are in `RUN/on/NAME/`, where NAME is the corpus' name: `metrics.json` and the predictions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo.data.config import PlanConfig
from emo.data.corpora.union import corpus_names, open_data
from emo.data.plan import Plan
from emo.data.source import Supervision
from emo.data.utterances import Utterances
from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime
from emo.evaluation.elsewhere.turns import turns_on
from emo.evaluation.outputs import predict_part
from emo.evaluation.posthoc.calibration import at_temperature
from emo.evaluation.posthoc.prior import FLOOR, at_prior, prior_ratio
from emo.evaluation.predictions import write_predictions
from emo.evaluation.results import part_results, turn_predictions
from emo.metrics import in_words
from emo.models.losses.objective import Objective
from emo.models.model import EmotionModel, rebuild
from emo.runs import checkpoint, files
from emo.runs.experiment import Experiment, load_statistics, measure, open_tokens
from emo.runs.finished import read_record, read_results
from emo.runs.folder import RunError, load_config
from emo.runs.run import Run
from emo.runs.start.init import unlike_inputs
from emo.runs.tracking.tracker import Tracker
from shards import atomic
from shards.store.index import Dataset


def evaluate_on(run: Path, shards: Path, prior: str = "trained") -> Path:
    """Evaluate the chosen checkpoint of `run` on the dataset `shards`; returns the results' folder.

    Args:
        prior: the class shares that probabilities are corrected to: those of the training
            (`trained`, no correction), all alike, or those of the dataset's own labels (`test`).

    Raises:
        UserError: the run is not finished, reads other input than the dataset holds, or knows none
            of its labels; or the dataset is of the run's corpus and its parts cannot be told.
    """
    record, results, config = read_record(run), read_results(run), load_config(run)
    dataset = open_data(shards)
    model = rebuild(record["recipe"]["description"])
    if not isinstance(model, EmotionModel):
        raise RunError(f"{run} is a context model, which reads vectors of its own branches only")
    problems = [
        line
        for branch in config.model.branches
        for line in unlike_inputs(branch, run, record, dataset)
    ]
    if problems:
        raise RunError(f"{run} cannot read {shards}:\n  " + "\n  ".join(problems))
    turns = turns_on(run, record, dataset)
    here = RuntimeConfig(
        strategy="gpu" if torch.cuda.is_available() else "cpu", processes=1, precision="fp32"
    )
    data = config.data.model_copy(update={"shards": shards})
    config = config.model_copy(update={"runtime": here, "run": run, "data": data, "init": {}})
    runtime = Runtime.start(
        here, accumulation=1, micro_batch=config.train.evaluation_batch, clip=0.0
    )
    chosen = checkpoint.best(files.checkpoints(run))
    model.load_state_dict(checkpoint.read_weights(chosen))
    view, tokens = turns.view, open_tokens(dataset, config, trained=True)
    statistics = load_statistics(run)
    if config.data.normalise in ("speaker", "corpus"):  # the new ones were never measured
        statistics = measure(runtime, dataset, view.test, config)
    samples = Utterances(
        dataset,
        config.inputs,
        Supervision.of(dataset, view, "hard"),
        statistics=statistics,
        pad_token=tokens.pad if tokens else 0,
        config=config.data,
    )
    classes = view.label_set.classes
    objective = Objective.plain(classes, output=config.model.trained_on)
    plan = Plan(PlanConfig(), units=len(view.test), global_batch=1, seed=0)
    experiment = Experiment(
        config, dataset, view, view.test, samples, plan, model, objective, parameters=0
    )
    tracker = Tracker(run, main=False, step=0)
    whole = Run(runtime, experiment, model.to(runtime.device), tracker)
    predictions = predict_part(whole, view.test)
    ratio_C = _ratio(prior, record, predictions.labels, classes)
    before = at_prior(predictions.probabilities, ratio_C)
    scaled = at_temperature(predictions.probabilities, results["temperature"])
    predictions = replace(predictions, probabilities=at_prior(scaled, ratio_C))
    part = part_results(predictions, before, view, dataset)
    summary = {
        "name": record["name"],
        "classes": list(classes),
        "label_codes": record["label_codes"],
        "dataset": {
            "folder": str(dataset.folder),
            "hash": dataset.manifest.dataset_hash,
            "corpus": dataset.manifest.settings.get("corpus", {}).get("content"),
            "name": corpus_names([dataset])[0],
        },
        "checkpoint": chosen.name,
        "temperature": results["temperature"],
        "prior": prior,
        "turns": turns.counts,
        "parts": {"test": part},
    }
    folder = _folder(run, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder, "test", turn_predictions(predictions, dataset, view))
    atomic.write(files.metrics(folder), (json.dumps(summary, indent=1) + "\n").encode())
    for line in turns.said:
        print(line)
    low, high = part["interval_95"]["wa"]
    print(
        f"{run} on {shards} ({part['n']} turns, {chosen.name}, prior {prior}): {in_words(part)}, "
        f"WA's 95 % interval [{100 * low:.1f}, {100 * high:.1f}] → {files.metrics(folder)}"
    )
    return folder


def _ratio(
    prior: str, record: Mapping[str, Any], labels: np.ndarray, classes: Sequence[str]
) -> np.ndarray | None:
    if prior == "trained":
        return None
    trained = (record.get("loss") or {}).get("prior")
    if trained is None:
        raise RunError("the run does not record its class shares (an older program): train again")
    if prior == "uniform":
        return prior_ratio("uniform", trained, classes)
    shares = np.bincount(labels, minlength=len(classes)) / len(labels)
    spec = {name: max(float(share), FLOOR) for name, share in zip(classes, shares, strict=True)}
    return prior_ratio(spec, trained, classes)


def _folder(run: Path, dataset: Dataset) -> Path:
    """`RUN/on/NAME`; of two datasets of one name, the second gets the head of its hash as well."""
    name, full = corpus_names([dataset])[0], dataset.manifest.dataset_hash
    folder = run / files.ELSEWHERE / name
    if files.metrics(folder).is_file():
        there = json.loads(files.metrics(folder).read_text())["dataset"]["hash"]
        if there != full:
            folder = folder.with_name(f"{name}-{full[:6]}")
    return folder
