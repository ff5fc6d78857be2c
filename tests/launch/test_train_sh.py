"""launch/train.sh with real processes: its exit codes, and that nothing is lost or left behind."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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


def test_a_run_folder_takes_one_run(lab, tiny, tmp_path):
    settings = lab.settings(tiny, tmp_path / "run", train__epochs=1)
    assert lab.train("cpu", settings, processes=1).process.returncode == 0
    second = lab.train("cpu", settings, processes=1)
    assert second.process.returncode == 2
    assert "holds a run already" in second.output
