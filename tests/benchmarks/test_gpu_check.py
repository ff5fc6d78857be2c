"""`make gpu-check` without a GPU: it says that it checked nothing, and a check is rehearsed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "benchmarks" / "gpu_check.py"


def check(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECK), *options],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_without_a_gpu_it_says_what_it_would_do_and_checks_nothing() -> None:
    done = check()
    assert done.returncode == 0, done.stderr
    *would, last = done.stdout.splitlines()
    assert last == "no GPU: nothing was checked"
    assert [line.split(":")[0].strip() for line in would[1:]] == ["strategies", "tests", "probes"]
    assert "(15 checks)" in would[1]
    assert "pass" not in done.stdout


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(CHECK.parent))
    import gpu_probes

    return gpu_probes.PROBES


def test_every_question_has_a_line_that_says_what_it_asks(probes) -> None:
    assert {"tf32_on_and_off", "offload", "long_clip_in_fp16"} <= probes.keys()
    assert all((probe.__doc__ or "").endswith(".") for probe in probes.values())


@pytest.mark.parametrize("name", ["long_clip_in_fp16", "saving_and_resuming"])
def test_a_question_is_answered_on_a_cpu(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECK.with_name("gpu_probes.py")), name, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.torture
def test_all_questions_can_be_rehearsed() -> None:
    done = check("--rehearse", "--part", "probes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no GPU was checked" in done.stdout.splitlines()[-1]
