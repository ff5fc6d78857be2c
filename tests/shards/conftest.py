import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse

TABLE = {
    "tables": "turns.jsonl",
    "fields": {
        "id": "id",
        "audio": "audio",
        "text": "text",
        "label": "label",
        "votes": "votes",
        "speaker": "speaker",
        "session": "session",
        "dialogue": "dialogue",
        "turn": "turn",
    },
    "labels": {code: code for code in ("ang", "hap", "neu", "sad", "xxx")},
}
WORDS = ("no", "yes", "the", "piano", "tomorrow", "never", "why", "certainly", "alone", "listen")


def write_corpus(root: Path, turns: int = 24, seconds: float = 0.25) -> None:
    """A spoken corpus of `turns` turns for the table reader: `turns.jsonl` and 16 kHz recordings.

    Every eighth turn has no majority; recordings are noise of varied length and loudness.
    """
    rng = np.random.default_rng(7)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(turns):
        name = f"turn{number:04d}.wav"
        length = round(16000 * seconds * rng.uniform(0.6, 1.4))
        envelope = 0.02 + np.abs(np.sin(np.arange(length) / 700))
        wave = 0.2 * envelope * rng.standard_normal(length)
        soundfile.write(root / name, wave.astype(np.float32), 16000)
        label = "xxx" if number % 8 == 7 else ("ang", "hap", "neu", "sad")[number % 4]
        votes = [label, label, "neu"] if label != "xxx" else ["ang", "sad", "hap"]
        rows.append(
            {
                "id": f"turn{number:04d}",
                "audio": name,
                "text": " ".join(rng.choice(WORDS, 4)) + (" [LAUGHTER]" if number % 5 == 0 else ""),
                "label": label,
                "votes": votes,
                "speaker": f"s{number % 2}",
                "session": str(1 + number % 3),
                "dialogue": f"d{number // 6}",
                "turn": number % 6,
            }
        )
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def settings(corpus: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration, as its YAML file would be read, of a small dataset of the corpus above."""
    return {
        "corpus": {"reader": "table", "root": str(corpus), "spec": TABLE},
        "labels": "four",
        "audio": {"sample_rate": 16000},
        "augment": {"variants": ["noise", "shift"]},
        "features": {"kinds": ["logmel", "mfcc"], "n_fft": 512, "mels": 16, "coefficients": 8},
        "text": {"learn": {"vocab_size": 80, "min_frequency": 1}, "max_tokens": 32},
        "vocabulary_view": {"labels": "four", "test": 0.2, "val": 0.2},
        "output": {"folder": str(folder), "utterances_per_shard": 8},
    } | changes


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` by its relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Small:
    """The helpers above, for tests that ask for the fixture `small`."""

    write_corpus = staticmethod(write_corpus)
    settings = staticmethod(settings)
    contents = staticmethod(contents)

    @staticmethod
    def config(corpus: Path, folder: Path, **changes: Any) -> ShardConfig:
        return parse(ShardConfig, settings(corpus, folder, **changes), "the test")


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 24 short turns; do not change it."""
    root = tmp_path_factory.mktemp("corpus")
    write_corpus(root)
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished dataset of that corpus, 3 shards, 66 samples; do not change it."""
    folder = tmp_path_factory.mktemp("built") / "shards"
    build(Small.config(corpus, folder), workers=1)
    return folder


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy of `built`, to damage."""
    shutil.copytree(built, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    """`speech(seconds, rate, f0, seed)`: float32, a voice-like tone in syllables, with pauses."""

    def make(
        seconds: float = 2.0, rate: int = 22050, f0: float = 150.0, seed: int = 0
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        pitch = f0 * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        harmonics = range(1, int(0.45 * rate / f0 / 1.06))
        voice = sum(np.sin(n * phase + rng.uniform(0, 6)) / n for n in harmonics)
        syllables = np.clip(np.sin(2 * np.pi * 2 * time) + 0.3, 0, None) ** 1.5
        wave = voice * syllables + 1e-3 * rng.standard_normal(len(time))
        return (0.3 * wave / np.abs(wave).max()).astype(np.float32)

    return make
