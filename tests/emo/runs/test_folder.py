"""One live writer in a run folder, whoever dies how; which settings may change on resuming."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from emo.config import ExperimentConfig
from emo.runs import files
from emo.runs.folder import check_unchanged, lock
from shards.configfile import ConfigError, parse
from shards.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from emo.runs.folder import lock
handle = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_writer_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"another process .process {holder.pid} on "):
            lock(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    os.close(lock(tmp_path))  # the kernel has given it up


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    os.close(lock(tmp_path))
    assert "file system without locks (No locks available)" in capsys.readouterr().out


@pytest.fixture
def begun(tmp_path: Path, make_settings: Any) -> Any:
    """`begun(**changes)`: the configuration of a run whose folder holds one without them."""

    def make(**changes: Any) -> ExperimentConfig:
        run = tmp_path / "run"
        run.mkdir()
        old = parse(ExperimentConfig, make_settings(tmp_path, run), "the tests")
        files.config(run).write_text(yaml.safe_dump(old.model_dump(mode="json")))
        return parse(ExperimentConfig, make_settings(tmp_path, run, **changes), "the tests")

    return make


def test_speed_may_change_and_what_is_learnt_may_not(begun: Any) -> None:
    config = begun(
        data__workers=3, train__epochs=9, optim__lr=0.5, model__audio__hidden=7, train__seed=4
    )
    with pytest.raises(ConfigError) as error:
        check_unchanged(config)
    assert {line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]} == {
        "optim.lr", "model.audio.hidden", "train.seed"
    }  # fmt: skip


def test_a_run_from_before_a_setting_existed_goes_on(begun: Any) -> None:
    config = begun()
    path = files.config(config.run)
    raw = yaml.safe_load(path.read_text())
    del raw["model"]["fusion"]["modality_dropout"], raw["optim"]["clip"]
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"\n  optim\.clip: was None, now 1\.0$"):
        check_unchanged(config)
    raw["optim"]["clip"] = 1.0
    path.write_text(yaml.safe_dump(raw))
    check_unchanged(config)


def test_a_run_goes_on_that_names_a_metric_as_earlier_versions_did(begun: Any) -> None:
    config = begun(train__select="weighted_f1")
    path = files.config(config.run)
    raw = yaml.safe_load(path.read_text())
    raw["train"]["select"] = "f1"
    path.write_text(yaml.safe_dump(raw))
    check_unchanged(config)
    raw["train"]["select"] = "wa"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"train\.select: was 'wa', now 'weighted_f1'"):
        check_unchanged(config)


def test_a_misspelt_selection_ends_with_a_suggestion(begun: Any) -> None:
    with pytest.raises(ConfigError, match=r"train\.select: .*did you mean 'weighted_f1'"):
        begun(train__select="weigthed_f1")
