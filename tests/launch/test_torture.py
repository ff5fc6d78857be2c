"""Whole runs killed and stopped at random moments, again and again: they end like undisturbed ones.

Dropout is on, so that the random generators of both ranks matter.
"""

import json
import os
import platform
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests/faults"
RESULTS = ROOT / "benchmarks/results/torture-training.md"
EPOCHS, STEPS = 12, 6
STOPPED_WITHIN = 30  # seconds from a SIGTERM to the end of train.sh

sys.path.insert(0, str(FAULTS))
from faults import recorded  # noqa: E402


@dataclass(frozen=True)
class Course:
    """One experiment, begun in a folder of its own for every run of it."""

    lab: object
    strategy: str
    settings: dict
    seconds: float = 0.0  # from the first step to the end, undisturbed

    def start(self, folder: Path):
        folder.mkdir(exist_ok=True)
        paths = os.pathsep.join([str(FAULTS), str(ROOT)])
        return self.lab.start(
            self.strategy, self.settings | {"run": str(folder / "run")},
            EMO_RECORD=str(folder), PYTHONPATH=paths,
        )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(new_lab, tiny, tmp_path_factory):
    """`undisturbed(strategy)`: the course and the folder of a run to its end, one a strategy."""
    made = {}

    def run(strategy):
        if strategy not in made:
            folder = tmp_path_factory.mktemp(f"undisturbed-{strategy}")
            lab = new_lab(folder)
            settings = lab.settings(
                tiny, folder / "run", resume="auto", train__epochs=EPOCHS,
                train__checkpoint_steps=2, train__keep=3,
            )  # fmt: skip
            course = Course(lab, strategy, settings)
            whole = course.start(folder)
            whole.wait_for("· from the start")
            began = time.monotonic()
            assert whole.wait() == 0, whole.output
            made[strategy] = Course(lab, strategy, settings, time.monotonic() - began), folder
        return made[strategy]

    return run


def newest(folder: Path) -> Path | None:
    return max((folder / "run/checkpoints").glob("step-????????"), default=None)


def logged(folder: Path) -> int:
    """The last step in the log."""
    path = folder / "run/log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return max(steps, default=0)


def disturb(run, how: str) -> int:
    """Do it; the exit code of train.sh."""
    if how == "kill -9 of all":
        run.kill_all()
    elif how == "kill -9 of the launcher":
        os.kill(run.launcher(), signal.SIGKILL)
    else:
        targets = {
            "SIGTERM to train.sh": [run.process.pid],
            "SIGTERM to all ranks": run.ranks(),
            "SIGTERM to one rank": run.ranks()[-1:],
            "SIGTERM to everything": run.members(),
        }[how]
        for pid in targets:
            os.kill(pid, signal.SIGTERM)
        assert run.wait(STOPPED_WITHIN) == 75, run.output
    code = run.wait(60)
    assert run.gone()
    return code


def torment(course: Course, folder: Path, disturbances: list[tuple[str, float]]) -> list[list]:
    """Start the run, disturb it after each moment (negative: seconds of its start-up), to its end.

    Every launch must go on from the newest checkpoint that was there. Returns a row a disturbance.
    """
    rows, before = [], None
    for how, moment in [*disturbances, ("", 0.0)]:
        run = course.start(folder)
        if before is None:
            run.wait_for("no checkpoint yet")
        else:
            run.wait_for(f"resuming from .*{before.name}")
        if not how:
            assert run.wait() == 0, run.output
            assert run.gone()
            break
        if moment >= 0:
            run.wait_for("· (resumed at step|from the start)")
        time.sleep(abs(moment))
        code = disturb(run, how)
        before, step = newest(folder), logged(folder)
        saved = int(before.name[5:]) if before else 0
        drafts = len(list((folder / "run/checkpoints").glob("*.tmp")))
        if how.startswith("SIGTERM"):
            assert (saved, drafts) == (step, 0), run.output
            assert json.loads((folder / "run/exit.json").read_text())["code"] == 75
        rows.append([course.strategy, how, f"{abs(moment):.2f}", step, saved, drafts, code])
    return rows


def check_end(folder: Path, whole: Path, steps_are_redone: bool) -> None:
    """The same weights, moments and results bit for bit, every sample of every epoch once."""
    one, two = newest(whole), newest(folder)
    assert one.name == two.name == f"step-{EPOCHS * STEPS:08d}"
    for name in ("weights", "moments"):
        a, b = (load_file(path / f"{name}.safetensors") for path in (one, two))
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a)
    results = [json.loads((f / "run/metrics.json").read_text())["parts"] for f in (whole, folder)]
    assert results[0] == results[1]
    assert not list((folder / "run/checkpoints").glob("*.tmp"))

    lines, expected = recorded(folder), recorded(whole)
    if not steps_are_redone:
        assert len(lines) == len(expected)
    used: list[dict] = [{}, {}]
    for number, source in enumerate((lines, expected)):
        for line in source:  # of a step that was done again, the last time counts
            used[number][line["rank"], line["step"]] = (line["epoch"], line["rows"])
    assert used[0] == used[1]
    for epoch in range(EPOCHS):
        counts = Counter(row for e, rows in used[0].values() if e == epoch for row in rows)
        assert set(counts.values()) == {1}
        assert len(counts) == 144  # 72 training turns, clean and with noise


def moments(course: Course, count: int, seed: int) -> list[float]:
    """Seconds after the banner, together less than the run is long; one in five while starting."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, course.seconds / (count + 1), count)
    return [float(-rng.uniform(0.0, 0.5) if n % 5 == 3 else m) for n, m in enumerate(found)]


def keep(seed: int, rows: list[list]) -> None:
    """Put the rows of one seed into the results, where they replace that seed's earlier ones."""
    head = [
        "# Training runs killed and stopped at random moments",
        "",
        "`pytest tests/launch/test_torture.py -m torture`, 2 processes of `launch/train.sh`,",
        f"{platform.machine()}, {os.cpu_count()} cores; {EPOCHS * STEPS} steps, a checkpoint every "
        "second one. Each disturbance is followed by",
        "the same command with `resume=auto`, which must go on from the newest checkpoint. Each",
        "run (one number) ended with weights, moments and metrics bit-identical to an undisturbed",
        "run, every rank used the same rows at every step, and every row once an epoch.",
        "",
        "| run | strategy | disturbance | s after the first step (start-up: while resuming) | "
        "last logged step | newest checkpoint | drafts left | exit code |",
        "|---|---|---|---|---|---|---|---|",
    ]
    old = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    mine = [f"| {seed} | " + " | ".join(str(value) for value in row) + " |" for row in rows]
    others = [
        line for line in old
        if line.startswith("| ") and line.split(" | ")[0][2:].isdigit()
        and line.split(" | ")[0] != f"| {seed}"
    ]  # fmt: skip
    table = sorted(others + mine, key=lambda line: int(line.split(" | ")[0][2:]))
    RESULTS.write_text("\n".join(head + table) + "\n")


def test_three_kills_and_two_stops(undisturbed, tmp_path):
    course, whole = undisturbed("cpu")
    how = ["kill -9 of all"] * 3 + ["SIGTERM to train.sh", "kill -9 of the launcher"]
    when = [abs(moment) for moment in moments(course, len(how), seed=3)]
    torment(course, tmp_path / "runs", list(zip(how, when, strict=True)))
    check_end(tmp_path / "runs", whole, steps_are_redone=True)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(1, 7))
def test_thirty_kills(seed, undisturbed, tmp_path):
    course, whole = undisturbed("cpu")
    how = ["kill -9 of all"] * 5
    rows = torment(course, tmp_path / "runs", list(zip(how, moments(course, 5, seed), strict=True)))
    check_end(tmp_path / "runs", whole, steps_are_redone=True)
    keep(seed, rows)


@pytest.mark.torture
def test_five_stops_of_zero2(undisturbed, tmp_path):
    course, whole = undisturbed("zero2")
    how = ["SIGTERM to train.sh", "SIGTERM to all ranks", "SIGTERM to one rank",
           "SIGTERM to everything", "SIGTERM to train.sh"]  # fmt: skip
    when = [abs(moment) for moment in moments(course, len(how), seed=7)]
    rows = torment(course, tmp_path / "runs", list(zip(how, when, strict=True)))
    check_end(tmp_path / "runs", whole, steps_are_redone=False)
    keep(7, rows)
