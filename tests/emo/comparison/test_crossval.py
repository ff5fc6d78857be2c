"""Folds: which there are, what is left to do, and how they are put together."""

import json
import shutil

import numpy as np
import pytest

from emo.comparison.crossval import (
    CrossvalError,
    aggregate,
    crossval,
    fold_settings,
)
from emo.config import ExperimentConfig
from emo.evaluation.predictions import read_lines
from emo.metrics import METRICS
from emo.runs import files
from emo.runs.folder import load_config
from shards.configfile import dump, parse
from shards.errors import UserError


def config_of(run, **view) -> ExperimentConfig:
    raw = load_config(run).model_dump(mode="json")
    raw["data"]["view"] |= view
    return parse(ExperimentConfig, raw, "the test")


def test_the_folds_of_a_protocol_and_of_seeds(trained_runs):
    sessions = config_of(trained_runs["text"], protocol="leave_one_session_out")
    assert fold_settings(sessions, None) == {
        "0": ['data.view.fold="0"'],
        "1": ['data.view.fold="1"'],
    }
    speakers = config_of(trained_runs["text"], protocol="leave_one_speaker_out")
    assert list(fold_settings(speakers, None)) == ["s0", "s1", "s2", "s3"]
    assert fold_settings(config_of(trained_runs["text"]), 2) == {
        "seed1": ["data.view.seed=1", "train.seed=1"],
        "seed2": ["data.view.seed=2", "train.seed=2"],
    }
    with pytest.raises(CrossvalError, match="has no folds: use --seeds"):
        fold_settings(config_of(trained_runs["text"]), None)


def test_aggregate_is_mean_deviation_and_pool(trained_runs):
    runs = [trained_runs["text"], trained_runs["audio"]]
    found = aggregate(runs)
    scores = [json.loads((run / "metrics.json").read_text())["parts"]["test"] for run in runs]
    was = [one["wa"] for one in scores]
    assert found["mean"]["wa"] == pytest.approx(np.mean(was))
    assert found["sd"]["wa"] == pytest.approx(np.std(was, ddof=1))
    averaged = {name for name, metric in METRICS.items() if metric.cross_validated}
    assert {"wa", "ua", "weighted_f1", "macro_f1"} <= averaged
    assert set(found["mean"]) == set(found["sd"]) == averaged
    assert found["pooled"]["n"] == sum(len(read_lines(run, "test")) for run in runs)
    assert found["pooled"]["wa"] == pytest.approx(
        np.average(was, weights=[one["n"] for one in scores])
    )


def finished(run, folder, config):
    """A copy of `run` as the fold that `config` asks for."""
    shutil.copytree(run, folder)
    (folder / files.CONFIG).write_text(dump(config))


@pytest.fixture
def both_folds(trained_runs, tmp_path):
    """The configuration of a cross-validation whose two folds are there, in `tmp_path / "all"`."""
    for fold in ("0", "1"):
        config = config_of(trained_runs["text"], protocol="leave_one_session_out", fold=fold)
        finished(trained_runs["text"], tmp_path / "all" / f"fold-{fold}", config)
    path = tmp_path / "experiment.yaml"
    path.write_text(dump(config_of(trained_runs["text"], protocol="leave_one_session_out")))
    return path


def of_all(path, *overrides, only=None, seeds=None):
    settings = [f"run={path.parent / 'all'}", *overrides]
    return crossval(path, settings, strategy="cpu", seeds=seeds, only=only)


def test_finished_folds_are_not_trained_again(both_folds, tmp_path, capsys):
    """With every fold there, nothing is launched; the result appears."""
    assert of_all(both_folds) == 0
    assert capsys.readouterr().out.count("trained already") == 2
    assert json.loads((tmp_path / "all" / files.CROSSVAL).read_text())["sd"]["wa"] == 0
    with pytest.raises(CrossvalError, match="folds 0 to 1"):
        of_all(both_folds, only=7)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=0.5", r"optim\.lr: was .*, now 0\.5"),
        ("model.text.build.hidden=64", r"model\.text\.build\.hidden: was \d+, now 64"),
        ("train.epochs=77", r"train\.epochs: was \d+, now 77"),
        ("train.global_batch=6", r"train\.global_batch: was \d+, now 6"),
    ],
)
def test_finished_folds_of_other_settings_are_refused_by_key(both_folds, tmp_path, override, line):
    with pytest.raises(UserError, match=line):
        of_all(both_folds, override)
    assert not (tmp_path / "all" / files.CROSSVAL).exists()


def test_finished_folds_of_other_data_are_refused(both_folds, tmp_path):
    """The same data may have moved."""
    record = tmp_path / "all" / "fold-1" / files.RECORD
    shards = load_config(record.parent).data.shards
    (tmp_path / "moved").symlink_to(shards.absolute())
    assert of_all(both_folds, f"data.shards={tmp_path / 'moved'}") == 0
    facts = json.loads(record.read_text())
    facts["dataset"]["hash"] = "0123456789abcdef"
    record.write_text(json.dumps(facts))
    with pytest.raises(CrossvalError, match=r"data\.shards: was dataset 0123456789ab, now"):
        of_all(both_folds)


def test_a_mapping_in_an_override_keeps_its_braces(both_folds):
    view = load_config(both_folds.parent / "all" / "fold-0").data.view.model_dump(mode="json")
    assert of_all(both_folds, f"data.view={json.dumps(view | {'fold': None})}") == 0


def test_folds_cut_short_go_on_and_end_as_if_they_had_not_been(trained_runs, tmp_path, monkeypatch):
    """Real launches, one process each: out of time in the first fold, then both to their end."""
    monkeypatch.setenv("EMO_PROCESSES", "1")
    path = tmp_path / "experiment.yaml"
    path.write_text(dump(config_of(trained_runs["text"])))

    def run(name: str, *more: str) -> int:
        overrides = [f"run={tmp_path / name}", *more]
        return crossval(path, overrides, strategy="cpu", seeds=2, only=None)

    assert run("cut", "train.max_minutes=0.0001") == 75
    assert not (tmp_path / "cut" / files.CROSSVAL).exists()
    assert run("cut") == 0
    assert run("whole") == 0
    cut, whole = (
        json.loads((tmp_path / name / files.CROSSVAL).read_text()) for name in ("cut", "whole")
    )
    assert list(cut["folds"]) == ["fold-seed1", "fold-seed2"]
    assert cut["pooled"] == whole["pooled"]
    assert cut["pooled"]["n"] == sum(fold["n"] for fold in cut["folds"].values())
