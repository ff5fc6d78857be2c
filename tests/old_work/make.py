"""Makes what `tests/test_old_work.py` holds later code to; the README beside it says how to run it.

It uses nothing of ours but command lines and file formats, so that it runs on the code of any
commit. Everything lies in one folder that can be moved, since all paths in it are relative to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LABELS = ("ang", "hap", "neu", "sad")
WORDS = {
    "ang": "never stop shout hate",
    "hap": "great smile love sunny",
    "neu": "table monday report list",
    "sad": "alone tears goodbye lost",
}
TURNS = 56
RATE = 4000  # Hz, of the recordings; the dataset's is twice that, so that they are resampled
VIEW = {"protocol": "random_dialogues", "labels": "four", "test": 0.2, "val": 0.2, "seed": 1}
SPOKEN, SAID = "corpus/turn0003.wav", "never stop the great report"
PREDICTIONS = {
    "text": ("runs/text", "--text", SAID),
    "fusion": ("runs/fusion", "--audio", SPOKEN, "--text", SAID),
    "fusion, text alone": ("runs/fusion", "--text", SAID),
    "export": ("export", "--audio", SPOKEN, "--text", SAID),
}
COMPARED = ("runs/text", "runs/fusion", "runs/context")


def write_corpus(folder: Path) -> None:
    """Tones of 8 bits whose pitch, and lines whose words, go with the label, but not always."""
    import soundfile

    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    rows = []
    for number in range(TURNS):
        label = LABELS[rng.integers(4)]
        heard = label if rng.random() < 0.7 else LABELS[rng.integers(4)]
        read = label if rng.random() < 0.7 else LABELS[rng.integers(4)]
        time_axis = np.arange(round(RATE * rng.uniform(0.2, 0.35))) / RATE
        pitch = 150 * 1.7 ** LABELS.index(heard) * rng.uniform(0.9, 1.1)
        wave = 0.3 * np.sin(2 * np.pi * pitch * time_axis) + 0.02 * rng.standard_normal(
            len(time_axis)
        )
        name = f"turn{number:04d}"
        soundfile.write(folder / f"{name}.wav", wave.astype(np.float32), RATE, subtype="PCM_U8")
        text = " ".join(rng.choice([*WORDS[read].split(), "the", "and"], rng.integers(3, 7)))
        rows.append(
            {"id": name, "audio": f"{name}.wav", "text": text, "label": label,
             "votes": [label, label, heard], "speaker": f"s{number % 2}", "session": "1",
             "dialogue": f"d{number // 7}", "turn": number % 7}
        )  # fmt: skip
    (folder / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def configurations() -> dict[str, dict[str, Any]]:
    fields = ("id", "audio", "text", "label", "votes", "speaker", "session", "dialogue", "turn")
    shards: dict[str, Any] = {
        "corpus": {
            "reader": "table",
            "root": "corpus",
            "spec": {"tables": "turns.jsonl", "fields": {f: f for f in fields},
                     "labels": {code: code for code in LABELS}},
        },
        "labels": "four",
        "audio": {"sample_rate": 2 * RATE},
        "features": {"kinds": ["logmel"], "n_fft": 512, "hop": 256, "mels": 8},
        "text": {"learn": {"vocab_size": 64, "min_frequency": 1}, "max_tokens": 12},
        "vocabulary_view": VIEW,
        "output": {"folder": "shards", "utterances_per_shard": 20},
    }  # fmt: skip
    text = {
        "build": {"hidden": 8, "layers": 1, "heads": 2, "intermediate": 8, "positions": 12},
        "pooling": "mean",
    }
    audio = {"channels": [2, 4], "hidden": 8, "dropout": 0.1}
    optim = {"lr": 1e-2, "weight_decay": 1e-2, "clip": 1.0, "schedule": "cosine"}
    train = {"global_batch": 24, "evaluation_batch": 16, "log_steps": 5}

    def run(name: str, epochs: int, order: str, model: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "run": f"runs/{name}",
            "data": {"shards": "shards", "view": VIEW, "plan": {"order": order}, "workers": 0},
            "model": model,
            "optim": optim,
            "train": {**train, "epochs": epochs},
        }

    fusion = run(
        "fusion",
        2,
        "shuffle",
        {"text": text, "audio": audio, "fusion": {"kind": "gated", "hidden": 4}},
    )
    fusion["init"] = {"text": "runs/text", "audio": "runs/audio"}
    context = run(
        "context", 2, "dialogues", {"context": {"kind": "bclstm", "reads": "scores", "hidden": 4,
                                                "dense": 4, "fused": 4,
                                                "modalities": ["text", "audio"]}}
    )  # fmt: skip
    context["data"]["shards"] = "vectors"
    context["train"]["global_batch"] = 2
    return {
        "shards": shards,
        "text": run("text", 3, "shuffle", {"text": text}),
        "audio": run("audio", 20, "bucketed", {"audio": audio}),
        "fusion": fusion,
        "context": context,
    }


def machine() -> dict[str, str]:
    """What decides whether two machines compute the same bits."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    here = {"cpu": "".join(sorted(set(facts))), "torch": torch.__config__.show()}
    here = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in here.items()}
    from importlib.metadata import version

    return here | {name: version(name) for name in ("numpy", "scipy", "soxr")}


class Commands:
    """Our command lines, as users give them, in a folder of work and with one checkout's code."""

    def __init__(self, code: Path, folder: Path) -> None:
        self.code, self.folder = code, folder
        self.environment = os.environ | {
            "PYTHONPATH": str(code),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def __call__(self, *words: str, processes: int = 1) -> str:
        """What the command prints; AssertionError with all of it where it fails."""
        done = subprocess.run(
            words, cwd=self.folder, text=True, capture_output=True,
            env=self.environment | {"EMO_PROCESSES": str(processes)},
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def emo(self, *words: str) -> str:
        return self(sys.executable, "-m", "emo", *words)

    def shards(self, *words: str) -> str:
        return self(sys.executable, "-m", "shards", *words)

    def train(self, config: str, *overrides: str, processes: int = 1) -> str:
        launch = str(self.code / "launch" / "train.sh")
        return self(launch, "cpu", config, *overrides, processes=processes)

    def predict(self) -> dict[str, dict[str, float]]:
        return {
            name: json.loads(self.emo("predict", "--json", *words))
            for name, words in PREDICTIONS.items()
        }

    def train_and_stop(self, config: str, run: Path, step: int) -> None:
        """SIGTERM at or soon after `step`, in the middle of an epoch."""
        process = subprocess.Popen(
            [str(self.code / "launch" / "train.sh"), "cpu", config],
            cwd=self.folder,
            env=self.environment | {"EMO_PROCESSES": "2"},
        )
        log = self.folder / run / "log.jsonl"
        while not log.is_file() or f'"step": {step}, "group": "train"' not in log.read_text():
            assert process.poll() is None, "it ended too early"
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75
        newest = max((self.folder / run / "checkpoints").glob("step-*"))
        state = json.loads((newest / "state.json").read_text())
        print("stopped at", state)
        assert state["data"]["consumed"] > 0, "it stopped between epochs: try again"


def make(code: Path, folder: Path) -> dict[str, Any]:
    """All of it in `folder`; returns what later code must find, too."""
    write_corpus(folder / "corpus")
    for name, settings in configurations().items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    commands = Commands(code, folder)
    commands.shards("build", "shards.yaml", "workers=1")
    commands.train("text.yaml")
    commands.train_and_stop("audio.yaml", Path("runs/audio"), 45)
    commands.train("fusion.yaml")
    commands.emo("features", "runs/text", "runs/audio", "vectors")
    commands.train("context.yaml")
    commands.emo("export", "runs/fusion", "export")
    commands.shards("verify", "shards", "--deep")
    for file in folder.glob("runs/*/tensorboard/*"):
        if "text" not in file.parts:
            file.unlink()

    # What the same code makes of a copy: the answers.
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    there = Commands(code, copy)
    there.emo("eval", *COMPARED)
    there.emo("compare", *COMPARED, "--csv", "table.csv")
    there.train("runs/audio/config.yaml", "resume=auto", processes=2)
    expected = folder / "expected"
    expected.mkdir()
    newest = max((copy / "runs/audio/checkpoints").glob("step-*"))
    for name in ("weights", "moments"):
        shutil.copy(newest / f"{name}.safetensors", expected / f"audio-{name}.safetensors")
    for name in ("text", "audio", "fusion", "context"):
        shutil.copy(copy / "runs" / name / "metrics.json", expected / f"{name}.json")
    views = {}
    for name in ("text", "fusion", "context"):
        facts = json.loads((copy / "runs" / name / "run.json").read_text())
        views[name] = {"view": facts["view"], "counts": facts["counts"]}
    datasets = {
        name: json.loads((folder / name / "manifest.json").read_text())
        for name in ("shards", "vectors")
    }
    commit = subprocess.run(
        ["git", "-C", str(code), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return {
        "commit": commit.stdout.strip(),
        "machine": machine(),
        "last_step": newest.name,
        "datasets": {name: one["dataset_hash"] for name, one in datasets.items()},
        "views": views,
        "predictions": there.predict(),
        "table": (copy / "table.csv").read_text().splitlines(),
    }


def main() -> None:
    code, target = Path.cwd(), Path(sys.argv[1]).resolve()
    folder = target / "work"
    expected = make(code, folder)
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    with tarfile.open(target / "work.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "lock":
                archive.add(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
