"""A finished run that trains further is not finished until it has been evaluated again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from emo.runs import files
from emo.runs.finished import is_finished
from emo.runs.folder import load_config
from emo.training.train import train


def test_more_epochs_cut_short_leave_no_finished_run(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_runs["text"], run)
    before = files.metrics(run).read_text()
    again = ["resume=auto"]
    assert train(load_config(run, again)) == "done"  # nothing to train: its result stays
    assert not (run / files.EARLIER_METRICS).exists()
    more = [*again, "train.epochs=5"]
    assert train(load_config(run, [*more, "train.max_minutes=0.00001"])) == "out of time"
    assert not is_finished(run)
    assert (
        json.loads((run / files.EARLIER_METRICS).read_text())["parts"]
        == (json.loads(before)["parts"])
    )
    assert train(load_config(run, [*more, "train.max_minutes=null"])) == "done"
    assert is_finished(run)
