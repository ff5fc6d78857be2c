"""launch/train.sh with real processes: its exit codes, and that nothing is lost or left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


def newest_weights(run: Path) -> tuple[str, dict]:
    folder = max((run / "checkpoints").glob("step-????????"))
    return folder.name, load_file(folder / "weights.safetensors")


def gone(run) -> bool:
    """Whether nothing of the run is left; what only sleeps may wake up once more to see it."""
    end = time.monotonic() + 30
    while run.members() and time.monotonic() < end:
        time.sleep(0.1)
    return not run.members()


def identical(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(one[n].equal(two[n]) for n in one)


@pytest.mark.parametrize("strategy", ["cpu", "gpu", "zero1", "zero2", "zero3", "fsdp"])
def test_dry_run_prints_the_launcher_and_runs_nothing(strategy):
    command = ["launch/train.sh", strategy, "configs/sample/text.yaml", "a.b=1", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"launch/accelerate/{strategy}.yaml" in done.stdout
    assert f"runtime.strategy={strategy}" in done.stdout
    assert "a.b=1" in done.stdout
    assert not done.stderr


def test_wrong_calls_are_refused_with_a_word():
    for arguments, word in (
        (["ddp", "configs/sample/text.yaml"], "unknown strategy"),
        (["cpu", "nowhere.yaml"], "there is no configuration"),
    ):
        done = subprocess.run(
            ["launch/train.sh", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert word in done.stderr


def test_a_setting_that_cannot_be_is_one_message(lab, tiny, tmp_path):
    run = lab.train("cpu", lab.settings(tiny, tmp_path / "run"), "train.global_batch=25")
    assert run.process.returncode == 2
    assert run.output.count("error:") == 1
    assert "cannot be cut evenly" in run.output
    assert "Traceback" not in run.output


def test_stopped_and_killed_runs_end_like_an_undisturbed_one(lab, tiny, tmp_path):
    """SIGTERM saves and exits with 75; `kill -9` of everything loses nothing that was saved.

    Dropout is on, so that the random generators of both ranks matter.
    """
    settings = lab.settings(
        tiny, tmp_path / "whole", train__epochs=6, train__checkpoint_steps=1, train__keep=3
    )
    whole = lab.train("cpu", settings)
    assert whole.process.returncode == 0, whole.output
    settings |= {"run": str(tmp_path / "disturbed"), "resume": "auto"}

    stopped = lab.start("cpu", settings)
    stopped.wait_for("epoch 2/6")
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.wait(120) == 75, stopped.output
    assert json.loads((tmp_path / "disturbed" / "exit.json").read_text())["code"] == 75
    assert gone(stopped)

    killed = lab.start("cpu", settings)
    killed.wait_for("epoch 4/6")
    killed.kill_all()
    launcher_gone = lab.start("cpu", settings)
    launcher_gone.wait_for("epoch 5/6")
    os.kill(launcher_gone.launcher(), signal.SIGKILL)
    launcher_gone.wait(120)
    assert gone(launcher_gone)

    last = lab.train("cpu", settings)
    assert last.process.returncode == 0, last.output
    assert "resuming from" in last.output
    name, weights = newest_weights(tmp_path / "whole")
    again, disturbed = newest_weights(tmp_path / "disturbed")
    assert again == name
    assert identical(weights, disturbed)
    results = [
        json.loads((tmp_path / run / "metrics.json").read_text())["parts"]
        for run in ("whole", "disturbed")
    ]
    assert results[0] == results[1]


def test_a_run_folder_takes_one_run(lab, tiny, tmp_path):
    settings = lab.settings(tiny, tmp_path / "run", train__epochs=1)
    assert lab.train("cpu", settings, processes=1).process.returncode == 0
    second = lab.train("cpu", settings, processes=1)
    assert second.process.returncode == 2
    assert "holds a run already" in second.output
