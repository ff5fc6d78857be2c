"""Which settings a run that goes on may have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emo import runfiles
from emo.config import ExperimentConfig
from emo.experiment import _check_unchanged
from shards.configfile import ConfigError, parse


@pytest.fixture
def begun(tmp_path: Path, make_settings: Any) -> Any:
    """`begun(**changes)`: the configuration of a run whose folder holds one without them."""

    def make(**changes: Any) -> ExperimentConfig:
        run = tmp_path / "run"
        run.mkdir()
        old = parse(ExperimentConfig, make_settings(tmp_path, run), "the tests")
        runfiles.config(run).write_text(yaml.safe_dump(old.model_dump(mode="json")))
        return parse(ExperimentConfig, make_settings(tmp_path, run, **changes), "the tests")

    return make


def test_speed_may_change_and_what_is_learnt_may_not(begun: Any) -> None:
    config = begun(
        data__workers=3, train__epochs=9, optim__lr=0.5, model__audio__hidden=7, train__seed=4
    )
    with pytest.raises(ConfigError) as error:
        _check_unchanged(config)
    assert {line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]} == {
        "optim.lr", "model.audio.hidden", "train.seed"
    }  # fmt: skip


def test_a_run_from_before_a_setting_existed_goes_on(begun: Any) -> None:
    config = begun()
    path = runfiles.config(config.run)
    raw = yaml.safe_load(path.read_text())
    del raw["model"]["fusion"]["modality_dropout"], raw["optim"]["clip"]
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"\n  optim\.clip: was None, now 1\.0$"):
        _check_unchanged(config)
    raw["optim"]["clip"] = 1.0
    path.write_text(yaml.safe_dump(raw))
    _check_unchanged(config)
