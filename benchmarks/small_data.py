"""A dataset of 96 short turns, made in seconds, whose labels can be told from tones and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse

WORDS = {
    "ang": "never stop shout hate enough",
    "hap": "great smile love sunny party",
    "neu": "table monday report number list",
    "sad": "alone tears goodbye lost empty",
}
RATE = 8000  # Hz


def make_dataset(folder: Path, turns: int = 96, seed: int = 5) -> Path:
    """Write a corpus and its shards (under 1 MB) below `folder`; returns the shards' folder."""
    rng, labels = np.random.default_rng(seed), list(WORDS)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    rows = []
    for number in range(turns):
        label = labels[number % len(labels)]
        time = np.arange(round(RATE * rng.uniform(0.2, 0.5))) / RATE
        wave = 0.3 * np.sin(2 * np.pi * 150 * 1.7 ** labels.index(label) * time)
        wave += 0.05 * rng.standard_normal(len(time))
        soundfile.write(corpus / f"{number:03d}.wav", wave.astype(np.float32), RATE)
        text = " ".join(rng.choice([*WORDS[label].split(), "the", "and"], rng.integers(3, 9)))
        rows.append({"id": f"{number:03d}", "audio": f"{number:03d}.wav", "text": text,
                     "label": label, "speaker": f"s{number % 4}", "session": str(number % 2),
                     "dialogue": f"d{number // 8}", "turn": number % 8})  # fmt: skip
    (corpus / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "corpus": {"reader": "table", "root": str(corpus),
                   "spec": {"tables": "turns.jsonl", "fields": {key: key for key in rows[0]},
                            "labels": {label: label for label in labels}}},
        "labels": "four",
        "audio": {"sample_rate": RATE},
        "augment": {"variants": []},
        "features": {"kinds": ["logmel"], "n_fft": 256, "hop": 128, "mels": 16},
        "text": {"learn": {"vocab_size": 100, "min_frequency": 1}, "max_tokens": 16},
        "vocabulary_view": {"labels": "four", "test": 0.25, "val": 0.25},
        "output": {"folder": str(folder / "shards"), "utterances_per_shard": 48},
    }  # fmt: skip
    build(parse(ShardConfig, settings, "the made corpus"), workers=1)
    return folder / "shards"


def experiment_file(path: Path, shards: Path, **train: Any) -> Path:
    """Write the configuration of a small fusion with dropout over `shards`; returns `path`."""
    text = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "positions": 32}
    raw = {
        "name": "small",
        "data": {"shards": str(shards), "workers": 0, "plan": {"order": "bucketed"},
                 "view": {"labels": "four", "test": 0.25, "val": 0.25}},
        "model": {"text": {"build": text, "pooling": "mean"},
                  "audio": {"channels": [4, 8], "hidden": 16},
                  "fusion": {"kind": "gated", "hidden": 8}},
        "optim": {"lr": 3e-3, "weight_decay": 1e-2, "clip": 1.0, "schedule": "cosine"},
        "train": {"epochs": 2, "global_batch": 24, "evaluation_batch": 24, "log_steps": 1, **train},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(raw))
    return path
