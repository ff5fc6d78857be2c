"""tests/run.sh on a few tests of its own: exit codes, what is shown last, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PASSES = "def test_well(): pass\n"
FAILS = "def test_ill(): assert 1 + 1 == 3\n"
SLEEPS = """
import subprocess, time
def test_long():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    open("begun-" + __name__, "w").close()
    time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`start(first, second, *options)`: the script over two halves of one test file each."""

    def run(first: str, second: str, *options: str) -> subprocess.Popen[str]:
        for folder, text in (("tests", first), ("tests/shards", second)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / f"test_{Path(folder).name}.py").write_text(text)
        for folder in ("tests/slurm", "tests/benchmarks", "tests/launch"):
            (tmp_path / folder).mkdir()
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q -rs\nmarkers = torture\n")
        shutil.copy(ROOT / "tests/run.sh", tmp_path / "tests")
        # Without plugins pytest starts twice as fast; our own mark would make us one of its tests.
        environment = {k: v for k, v in os.environ.items() if k != "EMO_TESTS"}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return subprocess.Popen(
            ["bash", "tests/run.sh", *options], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    return run


def started_in(folder: Path) -> list[str]:
    """What runs in `folder`: a process keeps the folder in which it was started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == folder.resolve():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("first", "second", "code", "last"),
    [
        (PASSES, PASSES, 0, "1 passed"),
        (PASSES, FAILS, 1, "FAILED tests/shards/test_shards.py::test_ill"),
        (FAILS, PASSES, 1, "FAILED tests/test_tests.py::test_ill"),
        (PASSES, "", 5, "no tests ran"),
        ("", PASSES, 5, "no tests ran"),
        ("import nothing_like_this", PASSES, 2, "ERROR tests/test_tests.py"),
    ],
    ids=["both pass", "second fails", "first fails", "second empty", "first empty", "no import"],
)
def test_either_half_decides_and_what_failed_comes_last(start, first, second, code, last):
    process = start(first, second)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert last in "\n".join(output.splitlines()[-4:]), output
    assert output.count("1 passed") == [first, second].count(PASSES)


def test_the_first_failure_ends_both_halves_if_asked_to(start, tmp_path):
    process = start(SLEEPS, FAILS, "-x")
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "FAILED tests/shards/test_shards.py::test_ill" in output
    assert not started_in(tmp_path)


@pytest.mark.parametrize("to_group", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_ends_both_halves_and_all_that_they_started(start, tmp_path, to_group):
    process = start(SLEEPS, SLEEPS)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len([line for line in started_in(tmp_path) if line.startswith("sleep")]) == 2
    (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "the tests were stopped" in output
    assert not started_in(tmp_path)
