"""A rank fails under launch/train.sh: the first error is shown alone, no process is left."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = os.pathsep.join([str(ROOT / "tests/faults"), str(ROOT)])


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.fixture
def broken(lab, tiny, tmp_path):
    """`broken("rank:step:kind", ...)`: a run with that fault and a checkpoint at every step."""

    def start(fault, *overrides, **env):
        settings = lab.settings(
            tiny, tmp_path / "run", train__epochs=1, train__checkpoint_steps=1, train__keep=9
        )
        return lab.start("cpu", settings, *overrides, EMO_FAULT=fault, PYTHONPATH=FAULTS, **env)

    return start


@pytest.fixture(scope="module")
def hung(new_lab, tiny, tmp_path_factory):
    """A run with a rank that hangs. torchrun gives it half a minute before it kills it."""
    lab = new_lab(tmp_path_factory.mktemp("hung"))
    settings = lab.settings(tiny, lab.folder / "run", train__epochs=1)
    late = "runtime.timeout_seconds=3"
    run = lab.start("cpu", settings, late, EMO_FAULT="1:3:hangs", PYTHONPATH=FAULTS)
    run.wait_for("this rank hangs")  # only its waiting may go by beside other tests
    return run


def test_a_bug_on_one_rank_ends_all_and_is_shown_alone(broken, tmp_path):
    run = broken("1:3:raises")
    assert run.wait() == 1
    assert run.output.count("error:") == 1
    assert "error: RuntimeError: a bug on one rank" in run.output
    assert run.output.count("Traceback") == 1
    assert run.gone()
    assert checkpoints(tmp_path / "run") == ["step-00000001", "step-00000002"]


@pytest.mark.usefixtures("hung")  # it waits while the tests from here on run
def test_a_full_gpu_names_the_settings_that_help(broken):
    """No GPU is needed for what torch raises, nor for what is said of it."""
    run = broken("1:2:gpu_memory")
    assert run.wait() == 2
    assert run.output.count("error:") == 1
    for word in ("GPU's memory", "train.accumulation", "activation_checkpointing", "bf16", "zero2"):
        assert word in run.output
    assert "Traceback" not in run.output
    assert run.gone()


def test_a_rank_killed_alone_ends_all(broken, tmp_path):
    """As the kernel does for want of memory."""
    run = broken("1:3:hangs")
    run.wait_for("global batch")
    while not (tmp_path / "run/checkpoints/step-00000002").is_dir():
        time.sleep(0.05)
    os.kill(run.ranks()[-1], signal.SIGKILL)
    assert run.wait(60) == 76
    assert "want of memory" in run.output
    assert "Traceback" not in run.output
    assert run.gone()


def test_the_launcher_says_that_a_rank_was_killed_where_no_other_can(broken, tmp_path):
    run = broken("0:3:hangs", processes=1)
    run.wait_for("global batch")
    while not (tmp_path / "run/checkpoints/step-00000002").is_dir():
        time.sleep(0.05)
    [rank] = run.ranks()
    os.kill(rank, signal.SIGKILL)
    assert run.wait(60) == 76
    assert "error: rank 0 was ended by SIGKILL, most often for want of memory" in run.output
    assert "Traceback" not in run.output
    assert run.gone()


def test_a_hung_rank_ends_all_when_the_time_is_over(hung):
    assert hung.wait(120) == 76
    assert hung.output.count("error:") == 1
    assert "did not arrive within runtime.timeout_seconds" in hung.output
    assert "resume=auto" in hung.output
    assert "Traceback" not in hung.output
    assert hung.gone()


def test_a_hung_rank_does_not_outlive_the_grace_of_a_stop(broken, tmp_path):
    run = broken("0:3:hangs", EMO_GRACE="2")
    run.wait_for("this rank hangs")  # a signal before that would find it able to save
    began = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143  # 75 would say that it saved
    print(f"ended {time.monotonic() - began:.1f} s after the signal")
    assert run.gone()
    assert checkpoints(tmp_path / "run") == ["step-00000001", "step-00000002"]


def test_a_run_that_ends_well_says_so_in_five_lines_and_a_file(lab, tiny, tmp_path):
    settings = lab.settings(tiny, tmp_path / "run", train__epochs=1)
    run = lab.train("cpu", settings, "runtime.precision=bf16", "resume=auto")
    assert run.process.returncode == 0
    lines = run.output.splitlines()
    first = lines.index("no checkpoint yet: from the start") + 1
    banner = lines[first : next(n for n, line in enumerate(lines) if line.startswith("epoch 1/1"))]
    assert len(banner) == 5
    assert banner[0].startswith("strategy cpu · 2 processes · bf16 · cpu")
    assert banner[1].startswith("model tiny: text + audio + fusion")
    assert banner[3].startswith("global batch 24 = 2 × 1 × 12")
    assert banner[4] == f"run {tmp_path / 'run'} · from the start"
    assert json.loads((tmp_path / "run/exit.json").read_text()) == {"code": 0, "reason": "done"}
