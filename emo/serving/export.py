"""`emo export`: write a trained run as one folder, which needs neither the run nor the shards.

The folder holds `model.safetensors` (full fp32 weights), `config.json` (architecture, labels,
feature settings, statistics, temperature), `tokenizer/` where the model reads text, and
`README.md`, the model card. A model over dialogues has an export of each branch that it reads in
`branches/`. `EmotionModel.from_pretrained(folder)` loads the bare module;
`Predictor.from_export(folder)` also has the preprocessing, from a recording to probabilities.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.metrics import METRICS, Metric
from emo.modalities import MODALITIES
from emo.models.model import CONFIG, WEIGHTS, EmotionModel, rebuild
from emo.models.tuning import has_adapters, merged
from emo.runs import checkpoint, files
from emo.runs.finished import read_record, read_results
from emo.serving.dialogue import DialoguePredictor, branch_runs, members_of
from shards import atomic
from shards.errors import UserError


class ExportError(UserError):
    """The run cannot be exported, or not to that folder."""


def export(run: Path, folder: Path, with_onnx: bool = False) -> dict[str, float]:
    """Write the best checkpoint of a finished `run` to the new folder `folder`, all or nothing.

    Args:
        with_onnx: also write each branch as `onnx/NAME.onnx` (`emo.serving.onnx`).

    Returns:
        By branch, the largest difference of its ONNX file from torch.

    Raises:
        OnnxError: as `emo.serving.onnx.write`.
        ExportError: `folder` exists, or the results are not those of the best checkpoint.
        RunError: `run` is no run folder, or its training has not ended.
        CheckpointError: the checkpoint is damaged or does not hold all of the model.
    """
    run, folder = Path(run), Path(folder)
    if folder.exists():
        raise ExportError(f"{folder} is there already: name a new folder")
    facts, results = read_record(run), read_results(run)
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
        "prior": results.get("prior", "trained"),
        "protocol": facts["protocol"],
        "dataset_hash": facts["dataset"]["hash"],
        "code": facts["code"],
    }
    sources: dict[str, Path] = {}
    if facts.get("context"):
        sources = branch_runs(run, facts)
        config["members"] = members_of(facts["context"])
    weights = checkpoint.read_weights(chosen)
    description = facts["recipe"]["description"]
    if has_adapters(description):
        model = rebuild(description)
        model.load_state_dict(weights)
        weights, description = merged(model, description)
        config["recipe"] = facts["recipe"] | {"description": description}
    draft = atomic.temporary(folder)
    try:
        with atomic.disk_errors(folder):
            draft.mkdir(parents=True)
            checkpoint.write_tensors(draft / WEIGHTS, weights)
            (draft / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
            (draft / "README.md").write_text(card(facts, results))
            for name, branch in sources.items():
                export(branch, draft / DialoguePredictor.BRANCHES / name)
            if (run / files.TOKENIZER).is_dir():
                shutil.copytree(run / files.TOKENIZER, draft / files.TOKENIZER)
        # A test as well: raises unless every weight can be loaded.
        exported = EmotionModel.from_pretrained(draft)
        differences = {}
        if with_onnx:
            from emo.serving import onnx

            if not isinstance(exported, EmotionModel):
                raise ExportError(
                    f"{run} is a model over dialogues: export its branches with --onnx"
                )
            differences = onnx.write(exported, draft / onnx.FOLDER)
        if not atomic.commit_folder(draft, folder):
            raise ExportError(f"{folder} has been made meanwhile: name a new folder")
        return differences
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def card(facts: dict[str, Any], results: dict[str, Any]) -> str:
    """The model card: what the model is, how it was tested, its use, and what not to use it for."""
    shown = [metric for metric in METRICS.values() if metric.percent]
    val, test = results["parts"]["val"], results["parts"]["test"]
    rows = [
        ("validation (the checkpoint was chosen on it)", val["n"], _cells(shown, val)),
        ("test", test["n"], _cells(shown, test)),
        *(
            (f"test, {kept} only", test["n"], _cells(shown, one))
            for kept, one in test.get("alone", {}).items()
        ),
    ]
    body = "\n".join(f"| {title} | {turns} | {cells} |" for title, turns, cells in rows)
    inputs = " and ".join(name for name in MODALITIES if name in facts["model"])
    by_class = "\n".join(
        f"| {name} | {row['support']} | {100 * row['precision']:.1f} | {100 * row['recall']:.1f} |"
        for name, row in results["parts"]["test"]["classes"].items()
    )
    overlap = results["overlap"]["train-test"]
    shared = ", ".join(f"{what} {100 * one['share']:.0f} %" for what, one in overlap.items())
    return f"""# {facts["name"]}

Speech emotion recognition from {inputs}: {", ".join(facts["classes"])}.
{_size(facts)}. Probabilities are at temperature
{results["temperature"]:.2f}, fitted on validation (`Predictor` uses it).

| part | utterances | {" | ".join(metric.heading for metric in shown)} |
|---|---|{"---|" * len(shown)}
{body}

In brackets: 95 % bootstrap intervals over turns.

Protocol: {facts["protocol"]}. Of the test turns, these shares occur in training too: {shared}.
Dataset {facts["dataset"]["hash"][:16]}, seed {facts["seed"]}, code {facts["code"]}.

| class | test utterances | precision % | recall % |
|---|---|---|---|
{by_class}

```python
from emo import load

{_use(facts)}
```

The labels are what a few annotators of one corpus agreed on. They say little about what a person
feels, about other languages, microphones and occasions; decide nothing about people by them.
"""


def _size(facts: Mapping[str, Any]) -> str:
    trained = f"{facts['parameters']:,}"
    if facts.get("size", facts["parameters"]) == facts["parameters"]:  # older runs have no size
        return f"{trained} trained parameters"
    return f"{facts['size']:,} parameters, {trained} of them trained in this run"


def _use(facts: Mapping[str, Any]) -> str:
    if facts.get("context"):
        turn = '{"audio": "turn.wav", "text": "what is said", "speaker": "A"}'
        return f'load("FOLDER")([{turn}, ...])  # the turns of a dialogue'
    given = {"audio": '"turn.wav"', "text": '"what is said"'}
    reads = [name for name in given if name in facts["model"]]
    call = ", ".join(given[name] if name == "audio" else f"text={given[name]}" for name in reads)
    return f'load("FOLDER")({call})'


def _cells(shown: Sequence[Metric], scores: Mapping[str, Any]) -> str:
    """A row's cells: each metric, with its interval where `scores` has one."""
    cells = []
    for metric in shown:
        cell = metric.show(scores.get(metric.name))
        interval = scores.get("interval_95", {}).get(metric.name)
        if interval is not None:
            low, high = interval
            cell += f" [{metric.show(low)}, {metric.show(high)}]"
        cells.append(cell)
    return " | ".join(cells)
