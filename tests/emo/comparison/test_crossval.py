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


def test_finished_folds_are_not_trained_again(trained_runs, tmp_path, capsys):
    """With every fold there, nothing is launched; the result appears."""
    config = config_of(trained_runs["text"], protocol="leave_one_session_out")
    path = tmp_path / "experiment.yaml"
    path.write_text(dump(config))
    for fold in ("0", "1"):
        shutil.copytree(trained_runs["text"], tmp_path / "all" / f"fold-{fold}")
    assert crossval(path, [f"run={tmp_path / 'all'}"], strategy="cpu", seeds=None, only=None) == 0
    assert capsys.readouterr().out.count("trained already") == 2
    assert json.loads((tmp_path / "all" / files.CROSSVAL).read_text())["sd"]["wa"] == 0
    with pytest.raises(CrossvalError, match="folds 0 to 1"):
        crossval(path, [f"run={tmp_path / 'all'}"], strategy="cpu", seeds=None, only=7)


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
