"""The run's settings: all as text, and the telling ones beside the final metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard.summary import custom_scalars, hparams

from emo.metrics import METRICS
from emo.models.model import EmotionModel
from emo.runs.run import Run
from emo.runs.tracking.tags import CCC, ENERGY, LAYOUT
from shards import configfile

# Columns of the table of hyper-parameters, from anywhere in the configuration.
COLUMNS = (
    "train.seed", "train.epochs", "train.global_batch", "train.label_smoothing", "train.select",
    "optim.name", "optim.lr", "optim.weight_decay", "optim.clip", "optim.schedule",
    "data.audio", "data.targets", "data.variants", "data.view.protocol", "data.view.fold",
    "data.view.seed", "data.plan.order", "runtime.strategy", "runtime.precision",
)  # fmt: skip


def describe_launch(run: Run, banner: str) -> None:
    """What this launch runs, and with which settings; how the charts are arranged."""
    tracker = run.tracker
    dumped = configfile.dump(run.config)
    tracker.describe("run", "    " + banner.replace("\n", "\n    "), tracker.launch)
    tracker.describe("settings", "```yaml\n" + dumped + "```", tracker.launch)
    tracker.add(custom_scalars(layout(run)), tracker.launch)
    tracker.settings(flat(run.config.model_dump(mode="json")))


def layout(run: Run) -> dict[str, dict[str, list[Any]]]:
    """`LAYOUT` as torch takes it, without charts that would stay empty."""
    empty = [] if run.runtime.device.type == "cuda" else [ENERGY]
    if run.config.model.attributes is None:
        empty.append(CCC)
    return {
        section: {
            title: ["Multiline", tags] for title, tags in charts.items() if tags[0] not in empty
        }
        for section, charts in LAYOUT.items()
    }


def rank(run: Run, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the final metrics of `parts` (as in `metrics.json`) beside the hyper-parameters."""
    tracker, results = run.tracker, {}
    for part, scores in parts.items():
        for name in METRICS:
            if isinstance(scores.get(name), int | float):
                results[f"result_{part}/{name}"] = float(scores[name])
    tracker.show(results, tracker.after)
    for summary in hparams(hyper_parameters(run), results):
        tracker.add(summary, tracker.after)


def hyper_parameters(run: Run) -> dict[str, str | float | bool]:
    """The columns of the table of hyper-parameters."""
    values = flat(run.config.model_dump(mode="json"))
    model, context = run.experiment.model, run.config.model.context
    kinds = model.kinds() if isinstance(model, EmotionModel) else {}
    chosen: dict[str, str | float | bool]
    chosen = {f"model.{name}.kind": kind for name, kind in kinds.items()}
    if context is not None:
        chosen["model.context.kind"] = context.kind
    chosen["parameters"] = run.experiment.parameters
    return chosen | {name: values[name] for name in COLUMNS if values.get(name) is not None}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, str | float | bool]:
    """Dotted names of all settings; lists as JSON, and what is null left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        elif isinstance(value, list):
            found[above + name] = json.dumps(value)
        elif value is not None:
            found[above + name] = value
    return found
