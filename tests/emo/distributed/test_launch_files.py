"""How commands start a training, and where its files are."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from emo.distributed import launch_files
from emo.distributed.launch_files import run_stoppable, run_training


def test_a_sigterm_is_handed_to_the_training(tmp_path: Path) -> None:
    """SLURM's warning comes to `emo crossval`; launch/train.sh must hear it to save."""
    script = "trap 'exit 75' TERM; touch began; while :; do sleep 0.05; done"

    def stop() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    assert run_stoppable(["bash", "-c", f"cd {tmp_path}; {script}"]) == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_is_started_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The exit code is the child's, and each setting arrives as one word."""
    script = tmp_path / "train.sh"
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/words\nexit 75\n")
    script.chmod(0o755)
    monkeypatch.setattr(launch_files, "TRAIN", script)
    assert run_training("zero2", Path("a.yaml"), ["run=a b", "resume=auto"]) == 75
    assert (tmp_path / "words").read_text().splitlines() == [
        "zero2", "a.yaml", "run=a b", "resume=auto"
    ]  # fmt: skip
