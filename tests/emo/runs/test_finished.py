"""What others find in run folders: of older versions, of other data, and where there is no run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from emo.runs import files
from emo.runs.finished import data_difference, read_record, read_results
from emo.runs.folder import RunError


def test_results_of_older_versions_have_the_present_names_and_all_metrics(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_runs["fusion"], run)
    wanted = read_results(run)
    old = json.loads(files.metrics(run).read_text())
    for part in old["parts"].values():
        del part["ua"], part["interval_95"]["ua"]  # as if it had not been a metric then
        for one in part["alone"].values():
            one["f1"] = one.pop("weighted_f1")
    files.metrics(run).write_text(json.dumps(old))
    found = read_results(run)
    for name, part in found["parts"].items():
        assert part["ua"] == wanted["parts"][name]["ua"]
        assert part["alone"] == wanted["parts"][name]["alone"]


def test_results_are_read_as_they_were_written(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["fusion"]
    assert read_results(run) == json.loads(files.metrics(run).read_text())


def test_a_cross_validation_is_named_for_what_it_is(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    for fold in ("a", "b"):
        shutil.copytree(trained_runs["text"], tmp_path / "all" / f"fold-{fold}")
    for read in (read_record, read_results):
        with pytest.raises(RunError, match=r"is a cross-validation.*all/fold-a$"):
            read(tmp_path / "all")
        with pytest.raises(RunError, match="is no run folder"):
            read(tmp_path)


def test_two_runs_on_other_data_differ_in_what_is_asked(trained_runs: dict[str, Path]) -> None:
    ours = read_record(trained_runs["text"])
    assert data_difference(ours, read_record(trained_runs["audio"]), ("dataset", "parts")) is None
    theirs = ours | {"view": "f" * 64, "classes": ["calm", "bored"]}
    assert data_difference(ours, theirs, ("dataset", "protocol")) is None
    assert data_difference(ours, theirs, ("dataset", "parts", "classes")) == (
        "parts", ours["view"][:12], "f" * 12
    )  # fmt: skip
    different = data_difference(ours, theirs, ["classes"])
    assert different is not None
    assert different.theirs == "['calm', 'bored']"
