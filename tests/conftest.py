"""One small real dataset and a way to launch real runs on it, for all tests of training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parent.parent

# A shell without job control starts what runs in its background deaf to Ctrl-C; what the tests
# start and send it to would be deaf as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
LABELS = ("ang", "hap", "neu", "sad")
WORDS = {
    "ang": "never stop shout hate enough",
    "hap": "great smile love sunny party",
    "neu": "table monday report number list",
    "sad": "alone tears goodbye lost empty",
}


def write_corpus(root: Path, turns: int) -> None:
    """Short tones whose pitch, and lines whose words, go with the label, but not always."""
    import soundfile

    rng = np.random.default_rng(3)
    root.mkdir(parents=True)
    rows = []
    for number in range(turns):
        label = LABELS[number % 4]
        heard = label if rng.random() < 0.7 else LABELS[rng.integers(4)]
        length = round(8000 * rng.uniform(0.2, 0.5))
        pitch = 150 * 1.7 ** LABELS.index(heard) * rng.uniform(0.9, 1.1)
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000)
        wave += 0.02 * rng.standard_normal(length)
        name = f"turn{number:04d}"
        soundfile.write(root / f"{name}.wav", wave.astype(np.float32), 8000)
        read = label if rng.random() < 0.7 else LABELS[rng.integers(4)]
        text = " ".join(rng.choice([*WORDS[read].split(), "the", "and", "is"], rng.integers(3, 9)))
        rows.append(
            {"id": name, "audio": f"{name}.wav", "text": text, "label": label,
             "votes": [label, label, heard], "speaker": f"s{number % 4}",
             "session": str(number % 2), "dialogue": f"d{number // 8}", "turn": number % 8}
        )  # fmt: skip
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 120 turns, each clean and once with noise; do not change it."""
    from shards.build.job import build
    from shards.config import ShardConfig
    from shards.configfile import parse

    root = tmp_path_factory.mktemp("tiny")
    write_corpus(root / "corpus", 120)
    fields = ("id", "audio", "text", "label", "votes", "speaker", "session", "dialogue", "turn")
    settings: dict[str, Any] = {
        "corpus": {
            "reader": "table",
            "root": str(root / "corpus"),
            "spec": {"tables": "turns.jsonl", "fields": {f: f for f in fields},
                     "labels": {code: code for code in LABELS}},
        },
        "labels": "four",
        "audio": {"sample_rate": 8000},
        "augment": {"variants": ["noise"]},
        "features": {"kinds": ["logmel"], "n_fft": 256, "hop": 128, "mels": 16},
        "text": {"learn": {"vocab_size": 100, "min_frequency": 1}, "max_tokens": 16},
        "vocabulary_view": {"labels": "four", "test": 0.2, "val": 0.2},
        "output": {"folder": str(root / "shards"), "utterances_per_shard": 40},
    }  # fmt: skip
    build(parse(ShardConfig, settings, "the tests"), workers=1)
    return root / "shards"


def text_branch(dropout: float = 0.1) -> dict[str, Any]:
    sizes = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "positions": 32}
    return {"build": {**sizes, "dropout": dropout}, "pooling": "mean", "dropout": dropout}


def audio_branch(dropout: float = 0.1) -> dict[str, Any]:
    return {"channels": [4, 8], "hidden": 16, "dropout": dropout}


def settings(shards: Path, run: Path, *, dropout: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A fusion of small branches with dropout; `changes` replace dotted keys (`train__epochs`)."""
    raw: dict[str, Any] = {
        "name": "tiny",
        "run": str(run),
        "data": {
            "shards": str(shards),
            "view": {"labels": "four", "test": 0.2, "val": 0.2},
            "plan": {"order": "bucketed"},
            "workers": 0,
        },
        "model": {
            "text": text_branch(dropout),
            "audio": audio_branch(dropout),
            "fusion": {"kind": "gated", "hidden": 8, "dropout": dropout},
        },
        "optim": {"lr": 3e-3, "weight_decay": 1e-2, "clip": 1.0, "schedule": "cosine"},
        "train": {"epochs": 2, "global_batch": 24, "evaluation_batch": 16, "log_steps": 1},
    }
    for key, value in changes.items():
        node, *path = raw, *key.split("__")
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return raw


@dataclass
class Run:
    """A launch/train.sh at work; its log's name in their environment marks all its processes."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str, seconds: float = 240) -> None:
        """Until its output matches; fails when it ends or the time is over."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, f"it ended before {pattern!r}:\n{self.output}"
            assert time.monotonic() < end, f"no {pattern!r} in {seconds} s:\n{self.output}"
            time.sleep(0.02)

    def wait(self, seconds: float = 300) -> int:
        return self.process.wait(seconds)

    def members(self, name: str = "") -> list[int]:
        """Live processes of this run, in whichever session, whose command line holds `name`."""
        found = []
        mark = f"EMO_TEST_RUN={self.log}".encode()
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, IndexError):
                continue
            if fields[0] not in "ZX" and marked and name in line:
                found.append(int(entry.name))
        return sorted(found)

    def gone(self) -> bool:
        """Whether nothing of it is left; what only sleeps may wake up once more to see its end."""
        end = time.monotonic() + 30
        while self.members() and time.monotonic() < end:
            time.sleep(0.05)
        return not self.members()

    def ranks(self) -> list[int]:
        launcher = self.launcher()
        return [pid for pid in self.members(" -m emo train") if pid != launcher]

    def launcher(self) -> int:
        [pid] = self.members("accelerate_launch.py")
        return pid

    def kill_all(self) -> None:
        """kill -9 of everything."""
        for pid in self.members():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(30)


class Lab:
    """Starts runs, and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Run] = []

    settings = staticmethod(settings)
    text_branch = staticmethod(text_branch)
    audio_branch = staticmethod(audio_branch)

    def write(self, raw: dict[str, Any]) -> Path:
        path = self.folder / f"{Path(raw['run']).name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    def start(
        self, strategy: str, raw: dict[str, Any], *overrides: str, processes: int = 2, **env: str
    ) -> Run:
        log = self.folder / f"launch-{len(self.runs)}.log"
        environment = os.environ | {"EMO_PROCESSES": str(processes), "OMP_NUM_THREADS": "1"} | env
        environment["EMO_TEST_RUN"] = str(log)  # see Run.members
        with log.open("w") as file:
            process = subprocess.Popen(
                ["launch/train.sh", strategy, str(self.write(raw)), *overrides],
                cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.runs.append(Run(process, log))
        return self.runs[-1]

    def train(
        self, strategy: str, raw: dict[str, Any], *overrides: str, processes: int = 2, **env: str
    ) -> Run:
        """A run to its end, whatever that is: look at `.process.returncode` and `.output`."""
        run = self.start(strategy, raw, *overrides, processes=processes, **env)
        run.wait(540)
        assert run.gone(), f"left behind: {run.members()}"
        return run

    def close(self) -> None:
        for run in self.runs:
            if run.process.poll() is None or run.members():
                run.kill_all()


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., dict[str, Any]]:
    """`settings` above."""
    return settings


@pytest.fixture(scope="session")
def new_lab() -> Any:
    """`new_lab(folder)`: launches runs of the tiny dataset; see `Lab`."""
    made: list[Lab] = []

    def make(folder: Path) -> Lab:
        made.append(Lab(folder))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def lab(tmp_path: Path, new_lab: Any) -> Any:
    """One of `new_lab` in the folder of the test, closed at its end."""
    found = new_lab(tmp_path)
    yield found
    found.close()


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """`copy_of(folder)`: a copy to damage."""

    def copy(folder: Path) -> Path:
        shutil.copytree(folder, tmp_path / "copy")
        return tmp_path / "copy"

    return copy
