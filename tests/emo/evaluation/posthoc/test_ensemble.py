"""Ensembles: their means by hand, a stacked head that learns whom to trust, and the files."""

import json
import shutil

import numpy as np
import pytest

from emo.__main__ import main
from emo.evaluation.posthoc.ensemble import JOINS
from emo.evaluation.predictions import read_lines
from shards.errors import EXIT_USER_ERROR

TRUTH = np.random.default_rng(0).integers(3, size=600)


def member(trust, seed):
    """Probabilities that favour the truth in a share `trust` of the turns, else any class."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(600) < trust, TRUTH, rng.integers(3, size=600))
    table = np.full((600, 3), 0.1)
    table[np.arange(600), said] = 0.8
    return table


def test_means_by_hand():
    two = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.6, 0.3]]])
    found = JOINS["probabilities"](two, two, np.array([0]))
    np.testing.assert_allclose(found, [[0.4, 0.4, 0.2]])
    product = np.sqrt([0.07, 0.12, 0.03])
    found = JOINS["logits"](two, two, np.array([0]))
    np.testing.assert_allclose(found[0], product / product.sum(), rtol=1e-9)


def test_a_stacked_head_learns_whom_to_trust():
    every = np.stack([member(0.9, 1), member(0.0, 2), member(0.0, 3)])
    right = {
        how: (join(every[:, 300:], every[:, :300], TRUTH[:300]).argmax(1) == TRUTH[300:]).mean()
        for how, join in JOINS.items()
    }
    alone = (every[0, 300:].argmax(1) == TRUTH[300:]).mean()
    assert right["stacked"] > alone - 0.02
    assert right["probabilities"] < alone - 0.05
    found = JOINS["stacked"](every[:, 300:], every[:, :300], np.minimum(TRUTH[:300], 1))
    np.testing.assert_allclose(found.sum(1), 1)  # a class that validation lacks


def test_an_ensemble_is_compared_as_a_run_is(trained_runs, tmp_path, capsys):
    runs = [str(trained_runs[name]) for name in ("text", "audio")]
    folder = tmp_path / "both"
    assert main(["ensemble", *runs, "--folder", str(folder), "--join", "logits"]) == 0
    said = capsys.readouterr().out
    results = json.loads((folder / "metrics.json").read_text())
    assert f"{100 * results['parts']['test']['wa']:.1f}" in said
    lines = read_lines(folder, "test")
    assert len(lines) == results["parts"]["test"]["n"]
    right = [max(x["probabilities"], key=x["probabilities"].get) == x["label"] for x in lines]
    assert np.mean(right) == pytest.approx(results["parts"]["test"]["wa"])
    assert main(["compare", *runs, str(folder)]) == 0
    assert "logits of 2" in capsys.readouterr().out


def test_runs_of_other_splits_are_refused(trained_runs, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(trained_runs["audio"], other)
    facts = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(facts | {"view": "0" * 64}))
    words = ["ensemble", str(trained_runs["text"]), str(other), "--folder", str(tmp_path / "new")]
    assert main(words) == EXIT_USER_ERROR
    assert "different parts" in capsys.readouterr().err
    assert main(["ensemble", str(other), "--folder", str(tmp_path / "new")]) == EXIT_USER_ERROR
    assert "at least two runs" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
