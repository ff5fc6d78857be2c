"""Several cross-validations in one table; one beside a run is told."""

import csv
import json
import shutil

import numpy as np
import pytest

from emo.__main__ import main
from emo.comparison.crossval import aggregate
from emo.evaluation.predictions import read_lines
from emo.runs import files
from shards.errors import EXIT_USER_ERROR


@pytest.fixture
def two(trained_runs, tmp_path):
    """Cross-validations of two folds, made of trained runs: fold b of the first differs."""
    made = {"one": ("text", "audio"), "other": ("text", "text")}
    for name, runs in made.items():
        folds = [tmp_path / name / f"fold-{fold}" for fold in "ab"]
        for run, fold in zip(runs, folds, strict=True):
            shutil.copytree(trained_runs[run], fold)
            facts = json.loads(files.metrics(fold).read_text())
            files.metrics(fold).write_text(json.dumps(facts | {"name": name}))
        (tmp_path / name / files.CROSSVAL).write_text(json.dumps(aggregate(folds)))
    return tmp_path / "one", tmp_path / "other"


def accuracy(run):
    lines = read_lines(run, "test")
    hits = [max(one["probabilities"], key=one["probabilities"].get) == one["label"]
            for one in lines]  # fmt: skip
    return np.array(hits, float)


def compare(*words):
    return main(["compare", *map(str, words)])


def test_the_table_holds_means_pools_and_paired_differences(two, tmp_path, capsys):
    assert compare(*two, "--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md") == 0
    said = capsys.readouterr().out
    assert "cross-validations · test part" in said
    rows = {row["run"]: row for row in csv.DictReader((tmp_path / "t.csv").open())}
    hits = {folder.name: [accuracy(folder / f"fold-{f}") for f in "ab"] for folder in two}
    for name, folds in hits.items():
        means = 100 * np.array([fold.mean() for fold in folds])
        assert float(rows[name]["wa"]) == pytest.approx(means.mean())
        assert float(rows[name]["wa_sd"]) == pytest.approx(means.std(ddof=1))
        assert float(rows[name]["pooled_wa"]) == pytest.approx(100 * np.concatenate(folds).mean())
        assert int(rows[name]["folds"]) == 2
    best = max(hits, key=lambda name: np.mean([fold.mean() for fold in hits[name]]))
    [worse] = hits.keys() - {best}
    folds = zip(hits[worse], hits[best], strict=True)
    by_fold = 100 * np.array([ours.mean() - theirs.mean() for ours, theirs in folds])
    assert float(rows[worse]["folds_to_best"]) == pytest.approx(by_fold.mean())
    assert float(rows[worse]["folds_to_best_se"]) == pytest.approx(by_fold.std(ddof=1) / 2**0.5)
    difference = np.concatenate(hits[worse]).mean() - np.concatenate(hits[best]).mean()
    assert float(rows[worse]["turns_to_best"]) == pytest.approx(100 * difference)
    assert not rows[best]["folds_to_best"]
    assert "| mean" not in (tmp_path / "t.md").read_text()
    assert "WA %, mean ± sd" in (tmp_path / "t.md").read_text()


def test_other_folds_are_in_the_table_but_not_paired(two, capsys):
    one, other = two
    (other / "fold-b").rename(other / "fold-c")
    result = json.loads((other / files.CROSSVAL).read_text())
    result["folds"]["fold-c"] = result["folds"].pop("fold-b")
    (other / files.CROSSVAL).write_text(json.dumps(result))
    assert compare(one, other) == 0
    # Where the note is broken into lines depends on how long the folders' names are.
    said = " ".join(capsys.readouterr().out.split())
    assert "are not paired: their folds are" in said
    assert "Differences in WA" not in said


def test_beside_a_run_and_unfinished_ones_end_with_a_remedy(two, trained_runs, capsys):
    one, other = two
    assert compare(one, trained_runs["text"]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert f"{one}: a cross-validation; {trained_runs['text']}: a run" in said
    assert f"a fold is a run: {one / 'fold-a'}" in said
    (other / files.CROSSVAL).unlink()
    assert compare(one, other) == EXIT_USER_ERROR
    assert f"{other}: not all folds are trained; the same `emo crossval`" in capsys.readouterr().err
    (other / files.CROSSVAL).write_text("{")
    assert compare(one, other) == EXIT_USER_ERROR
    assert "is damaged" in capsys.readouterr().err


def test_of_other_classes_they_are_not_compared(two, capsys):
    fold = two[1] / "fold-a"
    facts = json.loads(files.metrics(fold).read_text())
    facts["dataset"]["corpus"] = "0" * 64
    files.metrics(fold).write_text(json.dumps(facts))
    assert compare(*two) == EXIT_USER_ERROR
    assert "differ in corpus" in capsys.readouterr().err
