"""Two made corpora: other speakers, other words for emotions, other classes at other rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse

CODES = ("ang", "hap", "neu", "sad")
WORDS = {"ang": "never shout", "hap": "great sunny", "neu": "table monday", "sad": "alone empty"}
# By name: the corpus' own words, the share of each emotion, the turns, and the speakers.
CORPORA: dict[str, tuple[dict[str, str], dict[str, float], int, int]] = {
    "alba": (
        {"ang": "Wut", "hap": "Freude", "neu": "neutral", "sad": "Trauer"},
        {"ang": 0.2, "hap": 0.2, "neu": 0.4, "sad": 0.2},
        100,
        4,
    ),
    "bruno": (
        {"ang": "rage", "hap": "joy", "neu": "plain"},  # nobody is sad
        {"ang": 0.4, "hap": 0.4, "neu": 0.2},
        60,
        3,
    ),
}


def write_corpus(root: Path, name: str) -> None:
    words, shares, turns, speakers = CORPORA[name]
    rng = np.random.default_rng(len(name))
    root.mkdir(parents=True)
    counts = {code: round(share * turns) for code, share in shares.items()}
    codes = rng.permutation([code for code, n in counts.items() for _ in range(n)]).tolist()
    rows = []
    for number, code in enumerate(codes):
        heard = code if rng.random() < 0.8 else codes[rng.integers(len(codes))]
        pitch = (1 + 0.2 * (name == "bruno")) * 150 * 1.7 ** CODES.index(heard)
        length = round(8000 * rng.uniform(0.2, 0.5))
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000)
        wave += 0.02 * rng.standard_normal(length)
        soundfile.write(root / f"t{number:03d}.wav", wave.astype(np.float32), 8000)
        text = " ".join(rng.choice([*WORDS[code].split(), "the", "and"], rng.integers(3, 9)))
        rows.append(
            {"id": f"t{number:03d}", "audio": f"t{number:03d}.wav", "text": text,
             "label": words[code], "votes": [words[code], words[heard]],
             "speaker": f"s{number % speakers}", "dialogue": f"d{number // 5}",
             "turn": number % 5}
        )  # fmt: skip
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def build_corpus(folder: Path, name: str, shards: Path, **changes: Any) -> Path:
    fields = ("id", "audio", "text", "label", "votes", "speaker", "dialogue", "turn")
    words = CORPORA[name][0]
    settings: dict[str, Any] = {
        "corpus": {
            "reader": "table",
            "root": str(folder / name),
            "spec": {"tables": "turns.jsonl", "fields": {f: f for f in fields},
                     "labels": {word: code for code, word in words.items()}},
        },
        "labels": "four",
        "audio": {"sample_rate": 8000},
        "augment": {"variants": ["noise"]},
        "features": {"kinds": ["logmel"], "n_fft": 256, "hop": 128, "mels": 16},
        "text": {"max_tokens": 16},
        "output": {"folder": str(shards), "utterances_per_shard": 16},
    } | changes  # fmt: skip
    build(parse(ShardConfig, settings, "the tests"), workers=1)
    return shards
