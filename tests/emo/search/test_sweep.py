"""A sweep that is killed ends as one that is not; its space is checked before it begins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from emo.__main__ import main
from emo.search.space import SpaceConfig, check
from emo.search.study import Study, SweepError
from emo.search.sweep import gpus_of
from shards.configfile import ConfigError, parse

ROOT = Path(__file__).parents[3]
SPACE = {
    "trials": 10,
    "seed": 5,
    "pruning": {"trials": 2, "epochs": 1},
    "space": {
        "optim.lr": {"log": [1e-4, 1e-1]},
        "model.text.build.layers": {"integer": [1, 3]},
        "model.text.pooling": {"choice": ["mean", "cls", "attention"]},
        "model.text.dropout": {"uniform": [0.0, 0.3]},
    },
}
# The sweep itself, with a stand-in for what it launches.
PROGRAM = """
import sys
from pathlib import Path
from emo.search import sweep
fake, config, space, run = sys.argv[1:]
popen = sweep.subprocess.Popen
own = [sys.executable, "-S", fake]
sweep.subprocess.Popen = lambda command, **more: popen([*own, *command[1:]], **more)
sweep.POLL_SECONDS = 0.03
sys.exit(sweep.sweep(Path(config), Path(space), [f"run={run}"], strategy="cpu", jobs=1))
"""


@pytest.fixture
def files(tmp_path, make_settings):
    raw = make_settings(tmp_path / "shards", tmp_path / "run")
    raw["model"] = {"text": raw["model"]["text"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def start(folder, run):
    words = [Path(__file__).parent / "fake_train.py", folder / "config.yaml",
             folder / "space.yaml", folder / run]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(path, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)


def test_killed_three_times_it_ends_as_if_it_had_not_been(files):
    assert start(files, "whole").wait(300) == 0
    for trial, how in ((1, signal.SIGKILL), (4, signal.SIGTERM), (8, signal.SIGKILL)):
        process = start(files, "killed")
        wait_for(files / f"killed/trial-{trial:04d}/log.jsonl")
        process.send_signal(how)
        assert process.wait(60) == (75 if how == signal.SIGTERM else -signal.SIGKILL)
    assert start(files, "killed").wait(300) == 0
    whole, killed = (json.loads((files / run / "sweep.json").read_text())
                     for run in ("whole", "killed"))  # fmt: skip
    assert killed == whole
    assert (files / "killed/sweep.md").read_text() == (files / "whole/sweep.md").read_text()
    states = [row["state"] for row in whole["trials"]]
    assert len(states) == 10
    assert {"complete", "pruned", "failed"} == set(states)
    complete = [row for row in whole["trials"] if row["state"] == "complete"]
    assert max(complete, key=lambda row: row["value"])["trial"] == whole["best"]
    assert all(row["epochs"] == 4 for row in complete)
    assert all(row["epochs"] < 4 for row in whole["trials"] if row["state"] == "pruned")
    assert len(list((files / "whole/tensorboard").glob("trial-*/events*"))) == 10 - states.count(
        "failed"
    )


def test_two_workers_share_the_trials_and_each_trains_its_own(tmp_path):
    space = parse(SpaceConfig, SPACE | {"trials": 3}, "the test")
    one, other = (Study(tmp_path, space, "same") for _ in range(2))
    with one.claim() as mine, other.claim() as theirs:
        assert (mine.number, theirs.number) == (0, 1)
        one.finish(mine, 0.5)
    with one.claim() as again:  # the other let go without an end: it goes on
        assert again.number == 1
        assert again.overrides == theirs.overrides
        with other.claim() as last:
            assert last.number == 2
            with one.claim() as nothing:
                assert nothing is None
    with pytest.raises(SweepError, match="another configuration or space"):
        Study(tmp_path, space, "other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optim.lrr": {"log": [1e-4, 1e-2]}}, r"no setting optim.lrr: did you mean optim.lr\?"),
        ({"run": {"choice": ["a"]}}, "belongs to the sweep itself"),
        ({"optim.lr": {"log": [0, 1]}}, "both bounds must be above 0"),
        ({"optim.lr": {"log": [1, 2], "integer": [1, 2]}}, "exactly one of uniform, log, integer"),
        ({"optim.lr": {"uniform": [2, 1]}}, "2.0 is above 1.0"),
    ],
)
def test_a_wrong_space_is_named(change, said):
    with pytest.raises(ConfigError, match=said):
        parse(SpaceConfig, SPACE | {"space": change}, "the space")


def test_values_that_cannot_be_are_named_before_anything_runs(files, capsys):
    wrong = {"model.text.dropout": {"uniform": [0, 1.5]}, "train.select": {"choice": ["ua", "uua"]}}
    space = parse(SpaceConfig, SPACE | {"space": wrong}, "the space")
    with pytest.raises(ConfigError, match=r"(?s)dropout=1.5.*select=uua.*did you mean"):
        check(files / "config.yaml", [], space)
    (files / "space.yaml").write_text(yaml.safe_dump(SPACE | {"space": wrong}))
    assert main(["sweep", str(files / "config.yaml"), str(files / "space.yaml")]) == 2
    assert "dropout=1.5" in capsys.readouterr().err
    assert not (files / "run").exists()


def test_workers_have_their_own_gpus():
    assert gpus_of(0, 2, []) == {}
    shares = [gpus_of(job, 2, ["0", "1", "2", "3"])["CUDA_VISIBLE_DEVICES"] for job in range(2)]
    assert shares == ["0,1", "2,3"]
    assert [gpus_of(job, 3, ["4", "5"])["CUDA_VISIBLE_DEVICES"] for job in range(3)] == [
        "4", "5", "4",
    ]  # fmt: skip
