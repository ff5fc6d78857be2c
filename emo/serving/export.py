"""`emo export`: a trained run as one folder that loads without the run and without the shards.

The folder holds `model.safetensors` (full fp32 weights), `config.json` (architecture, labels,
feature settings, statistics, temperature), `tokenizer/` where the model reads text, and
`README.md`, the model card. `EmotionModel.from_pretrained(folder)` gives the bare module,
`Predictor.from_export(folder)` the way from a recording to probabilities.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from emo.models.model import CONFIG, WEIGHTS, EmotionModel
from emo.runs import checkpoint, files
from shards import atomic
from shards.errors import UserError


class ExportError(UserError):
    """A run that cannot be exported to that folder."""


def export(run: Path, folder: Path) -> None:
    """Write the best checkpoint of a finished `run` into the new folder `folder`, all or nothing.

    Raises:
        ExportError: `folder` exists, or the run has not been evaluated yet.
        CheckpointError: the checkpoint is damaged or does not hold all of the model.
    """
    run, folder = Path(run), Path(folder)
    if folder.exists():
        raise ExportError(f"{folder} is there already: name a new folder")
    for name in (files.RECORD, files.METRICS):
        if not (run / name).is_file():
            raise ExportError(
                f"{run} has no {name}: it is no run folder, or training has not ended"
            )
    facts = json.loads((run / files.RECORD).read_text())
    results = json.loads((run / files.METRICS).read_text())
    chosen = checkpoint.best(files.checkpoints(run))
    if chosen.name != results["checkpoint"]:
        raise ExportError(
            f"{run}: metrics.json is of {results['checkpoint']}, the best checkpoint is "
            f"{chosen.name}: run `emo eval {run}` first"
        )
    config = {
        "format": 1,
        "classes": facts["classes"],
        "recipe": facts["recipe"],
        "temperature": results["temperature"],
        "protocol": facts["protocol"],
        "dataset_hash": facts["dataset"]["hash"],
        "code": facts["code"],
    }
    weights = checkpoint.read_weights(chosen)
    draft = atomic.temporary(folder)
    try:
        with atomic.disk_errors(folder):
            draft.mkdir(parents=True)
            checkpoint.write_tensors(draft / WEIGHTS, weights)
            (draft / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
            (draft / "README.md").write_text(card(facts, results))
            if (run / files.TOKENIZER).is_dir():
                shutil.copytree(run / files.TOKENIZER, draft / files.TOKENIZER)
        EmotionModel.from_pretrained(draft)  # loads every key, or the folder is never published
        if not atomic.commit_folder(draft, folder):
            raise ExportError(f"{folder} has been made meanwhile: name a new folder")
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def card(facts: dict[str, Any], results: dict[str, Any]) -> str:
    """The model card: what it is, how it was tested, how to use it, what not to use it for."""
    rows = []
    for part, title in (("val", "validation (the checkpoint was chosen on it)"), ("test", "test")):
        scores = results["parts"][part]
        low, high = scores["interval_95"]["wa"]
        rows.append(
            f"| {title} | {scores['n']} | {100 * scores['wa']:.1f} [{100 * low:.1f}, "
            f"{100 * high:.1f}] | {100 * scores['ua']:.1f} | {100 * scores['weighted_f1']:.1f} | "
            f"{100 * scores['ece']:.1f} |"
        )
    for kept, left in results["parts"]["test"].get("alone", {}).items():
        rows.append(
            f"| test, {kept} alone | {scores['n']} | {100 * left['wa']:.1f} | "
            f"{100 * left['ua']:.1f} | {100 * left.get('weighted_f1', left.get('f1')):.1f} | – |"
        )
    inputs = " and ".join(part for part in ("text", "audio") if part in facts["model"])
    by_class = "\n".join(
        f"| {name} | {row['support']} | {100 * row['precision']:.1f} | {100 * row['recall']:.1f} |"
        for name, row in results["parts"]["test"]["classes"].items()
    )
    overlap = results["overlap"]["train-test"]
    shared = ", ".join(f"{what} {100 * one['share']:.0f} %" for what, one in overlap.items())
    return f"""# {facts["name"]}

Speech emotion recognition from {inputs}: {", ".join(facts["classes"])}.
{facts["parameters"]:,} trained parameters. Probabilities are at temperature
{results["temperature"]:.2f}, fitted on validation (`Predictor` uses it).

| part | utterances | WA % [95 %] | UA % | weighted F1 % | ECE % |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Protocol: {facts["protocol"]}. Of the test turns, these shares occur in training too: {shared}.
Dataset {facts["dataset"]["hash"][:16]}, seed {facts["seed"]}, code {facts["code"]}.

| class | test utterances | precision % | recall % |
|---|---|---|---|
{by_class}

```python
from emo.serving.predict import Predictor

Predictor.from_export("FOLDER").predict("turn.wav", "what is said")
```

The labels are what a few annotators of one corpus agreed on. They say little about what a person
feels, about other languages, microphones and occasions; decide nothing about people by them.
"""
