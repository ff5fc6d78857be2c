"""What losses make of rare classes, against the best possible: one table from one command.

The turns of a sample corpus, as text, in four classes. In training and validation, two of the
classes are ten times as rare as the other two; the test part has as many turns of each. The process
behind the corpus is known, so the best possible macro-F1 on a balanced test part is that of
predicting the class c with the largest P(c | words) / P(c), which is computed exactly.

    python benchmarks/imbalance.py CORPUS [--seeds 3] [--markdown FILE]

CORPUS is a folder that `emo-shards sample-corpus` made. Intervals are one standard error over turns
(bootstrap) of the mean over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from table import Table  # this folder's

CLASSES = {"anger": ("ang",), "happiness": ("hap", "exc"), "neutral": ("neu",), "sadness": ("sad",)}
RARE = ("happiness", "sadness")
RATIO = 10
SHARES = {"test": 0.3, "val": 0.2, "train": 0.5}  # of each class' turns, before they are thinned
LOSSES: dict[str, dict[str, Any]] = {
    "cross-entropy": {},
    "class weights (inverse)": {"loss": {"weights": "inverse"}},
    "class weights (root)": {"loss": {"weights": "root"}},
    "focal, gamma 2": {"loss": {"kind": "focal", "gamma": 2.0}},
    "logit adjustment": {"loss": {"adjust": {"tau": 0.0, "gamma": 1.0}}},
    "VS, tau 0.3": {"loss": {"adjust": {"tau": 0.3, "gamma": 1.0}}},
    "cross-entropy, prior corrected": {"evaluation": {"prior": "uniform"}},
}


def thinned(corpus: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The turns to build from, each with its part, and P(class | words) of every turn by its id."""
    from shards.corpora.iemocap.reader import IemocapConfig, read
    from shards.corpora.labels import label_set
    from shards.sample.ceilings import ceilings

    chosen = label_set(CLASSES)
    posterior = ceilings(corpus / "truth.jsonl", chosen)["text"]
    turns = [one for one in read(IemocapConfig(reader="iemocap", root=corpus)).utterances
             if chosen.class_of(one.label) >= 0]  # fmt: skip
    rng = np.random.default_rng(0)
    rows = []
    by_class = [[one for one in turns if chosen.class_of(one.label) == c] for c in range(4)]
    fewest = min(map(len, by_class))
    for name, members in zip(CLASSES, by_class, strict=True):
        order = rng.permutation(len(members))[:fewest]
        at = 0
        for part, share in SHARES.items():
            count = int(share * fewest)
            kept = count // RATIO if name in RARE and part != "test" else count
            for place in order[at : at + kept]:
                one = members[place]
                rows.append({"id": one.id, "text": one.text, "label": one.label,
                             "speaker": one.speaker, "split": part})  # fmt: skip
            at += count
    return rows, posterior


def build(folder: Path, rows: list[dict[str, Any]]) -> Path:
    from shards.build.job import build as build_shards
    from shards.config import ShardConfig
    from shards.configfile import parse

    (folder / "corpus").mkdir()
    (folder / "corpus/turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {name: name for name in ("id", "text", "label", "speaker", "split")}
    raw = {
        "corpus": {"reader": "table", "root": str(folder / "corpus"),
                   "spec": {"tables": "turns.jsonl", "fields": fields,
                            "labels": {code: code for own in CLASSES.values() for code in own}}},
        "labels": CLASSES, "augment": {"variants": []}, "features": None,
        "text": {"learn": {"vocab_size": 2000}},
        "vocabulary_view": {"protocol": "official", "labels": CLASSES},
        "output": {"folder": str(folder / "shards")},
    }  # fmt: skip
    build_shards(parse(ShardConfig, raw, "this benchmark"), workers=1)
    return folder / "shards"


def train(folder: Path, shards: Path, name: str, seed: int) -> np.ndarray:
    """Train one run; the classes it predicts for the test part, by utterance."""
    from emo.config import ExperimentConfig
    from emo.evaluation.predictions import read_predictions
    from emo.training.train import train as run_training
    from shards.configfile import parse

    run = folder / f"{list(LOSSES).index(name)}-{seed}"
    sizes = {"hidden": 64, "layers": 1, "heads": 2, "intermediate": 128, "positions": 64}
    raw: dict[str, Any] = {
        "name": "imbalance", "run": str(run),
        "data": {"shards": str(shards), "view": {"protocol": "official", "labels": CLASSES},
                 "workers": 0},
        "model": {"text": {"build": sizes, "pooling": "mean", "dropout": 0.2}},
        "optim": {"lr": 2e-3, "clip": 1.0, "schedule": "cosine", "warmup_fraction": 0.1},
        "train": {"epochs": 20, "global_batch": 32, "evaluation_batch": 512, "select": "ua",
                  "seed": seed},
    }  # fmt: skip
    run_training(parse(ExperimentConfig, raw | LOSSES[name], "this benchmark"))
    found = read_predictions(run, "test", list(CLASSES))
    return found.predicted


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    from emo import metrics

    return float(metrics.macro_f1(metrics.confusion(truth, predicted, len(CLASSES))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    options = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    names = list(CLASSES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, posterior = thinned(options.corpus)
        shards = build(folder, rows)
        test = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["id"])
        truth = np.array([next(n for n, name in enumerate(names) if row["label"] in CLASSES[name])
                          for row in test])  # fmt: skip
        prior = np.mean(list(posterior.values()), axis=0)
        best = np.stack([posterior[row["id"]] / prior for row in test]).argmax(1)
        every = {"the best possible": [best]}
        for name in options.only:
            every[name] = [train(folder, shards, name, seed) for seed in range(options.seeds)]
    rng = np.random.default_rng(1)
    draws = [rng.integers(len(truth), size=len(truth)) for _ in range(1000)]

    def mean(predicted: list[np.ndarray], rows: Any = slice(None)) -> float:
        return float(np.mean([macro_f1(truth[rows], one[rows]) for one in predicted]))

    lines = []
    for name, predicted in every.items():
        to_best = [mean(predicted, rows) - mean([best], rows) for rows in draws]
        rare = np.isin(truth, [names.index(one) for one in RARE])
        recall = np.mean([(one == truth)[rare].mean() for one in predicted])
        lines.append([
            name, f"{100 * mean(predicted):.1f}",
            f"{100 * (mean(predicted) - mean([best])):+.1f} ± {100 * np.std(to_best):.1f}",
            f"{100 * recall:.1f}",
        ])  # fmt: skip
    counts = {part: [sum(row["split"] == part and row["label"] in CLASSES[name] for row in rows)
                     for name in names] for part in SHARES}  # fmt: skip
    title = (
        f"Macro-F1 in % on {len(truth)} balanced test turns, mean of {options.seeds} seeds; "
        f"training turns: {dict(zip(names, counts['train'], strict=True))}"
    )
    table = Table(title, ("loss", "macro-F1", "to the best possible", "recall of rare"), lines)
    table.show()
    if options.markdown:
        options.markdown.write_text(table.markdown())


if __name__ == "__main__":
    main()
