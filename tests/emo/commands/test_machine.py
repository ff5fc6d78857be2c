"""What the machine and the runs folder are said to hold."""

import json

import pytest

from emo.__main__ import main
from emo.commands.machine import checks
from emo.commands.results.runs import listed
from emo.config import ExperimentConfig
from emo.runs.folder import locked
from emo.settings import settings_of
from shards.config import ShardConfig
from shards.configfile import all_keys


@pytest.mark.parametrize("kind", [ExperimentConfig, ShardConfig])
def test_every_setting_is_listed(kind):
    found = {one.key: one for one in settings_of(kind)}
    assert found.keys() == {".".join(key) for key in all_keys(kind)}
    assert all(one.default and one.allowed for one in found.values())
    assert all("PydanticUndefined" not in one.default for one in found.values())


def test_a_setting_is_told_with_default_unit_values_and_meaning(capsys):
    found = {one.key: one for one in settings_of(ShardConfig)}
    rate = found["audio.sample_rate"]
    assert (rate.default, rate.unit, rate.allowed) == (
        "22050", "Hz", "whole number ≥ 4000, ≤ 192000",
    )  # fmt: skip
    assert main(["fields", "optim.lr"]) == 0
    shown = capsys.readouterr().out
    assert "optim.lr = 0.001   (number > 0)" in shown
    assert "rises linearly" in shown
    assert main(["fields", "--markdown", "schedule"]) == 0
    assert "| `optim.schedule` | `constant` |  | constant, linear, cosine" in (
        capsys.readouterr().out
    )
    assert main(["fields", "optmi"]) == 2
    assert "did you mean 'optim'" in capsys.readouterr().err


def test_runs_are_listed_with_their_state(trained_runs, tmp_path, capsys):
    folder = trained_runs["text"].parent
    found = {one.run.name: one for one in listed(folder)}
    assert {"text", "audio", "fusion"} <= found.keys()
    assert found["text"].state == "finished"
    assert found["text"].result.startswith("WA ")
    assert int(found["text"].step) > 0
    with locked(trained_runs["text"]):
        assert next(one for one in listed(trained_runs["text"])).state == "training"
    assert main(["runs", str(folder), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found)
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_doctor_says_what_is_there_and_what_to_do(capsys, monkeypatch):
    code = main(["doctor", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == any(one["state"] == "missing" for one in lines)
    assert {"Python", "memory", "threads", "open files", "/dev/shm", "SLURM", "torch"} <= {
        one["what"] for one in lines
    }
    assert all(one["remedy"] for one in lines if one["state"] != "ok")
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    [slurm] = checks.slurm()
    assert slurm.state == "note"
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    [threads] = checks.threads()
    assert (threads.state, "OMP_NUM_THREADS" in threads.remedy) == ("note", True)
