"""`emo eval` after all around a run has moved: the same numbers, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from emo.__main__ import main
from emo.runs import files
from shards.errors import EXIT_USER_ERROR


@pytest.fixture
def moved(trained_runs: dict[str, Path], tmp_path: Path, tiny: Path) -> tuple[Path, Path]:
    """A fusion whose shards and whose branches' runs are elsewhere, and the new place of shards."""
    run = tmp_path / "fusion"
    shutil.copytree(trained_runs["fusion"], run)
    text = files.config(run).read_text()
    text = text.replace(str(trained_runs["text"].parent), str(tmp_path / "gone"))
    files.config(run).write_text(text.replace(str(tiny), str(tmp_path / "gone-too")))
    shutil.copytree(tiny, tmp_path / "new")
    return run, tmp_path / "new"


def test_moved_shards_and_branches_give_the_same_result(
    moved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, shards = moved
    before = json.loads(files.metrics(run).read_text())
    predictions = files.predictions(run, "test").read_text()
    assert main(["eval", str(run)]) == EXIT_USER_ERROR
    capsys.readouterr()
    assert main(["eval", str(run), f"data.shards={shards}", "data.workers=0"]) == 0
    said = capsys.readouterr().out
    assert f"evaluating {files.checkpoints(run) / before['checkpoint']}, which val" in said
    assert "resuming" not in said
    after = json.loads(files.metrics(run).read_text())
    assert after["parts"] == before["parts"]
    assert files.predictions(run, "test").read_text() == predictions


def test_other_shards_are_refused(
    moved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, shards = moved
    record = json.loads((run / files.RECORD).read_text())
    record["dataset"]["hash"] = "0" * 64
    (run / files.RECORD).write_text(json.dumps(record))
    assert main(["eval", str(run), f"data.shards={shards}"]) == EXIT_USER_ERROR
    assert "was trained on other data than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=1"], "train.evaluation_batch, evaluation.prior may differ"),
        (["data.shard=x"], "did you mean 'data.shards'"),
    ],
)
def test_what_was_trained_cannot_be_changed(
    trained_runs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert main(["eval", str(trained_runs["text"]), *words]) == EXIT_USER_ERROR
    assert said in capsys.readouterr().err
    assert main(["eval", *words]) == EXIT_USER_ERROR
    assert "name at least one run folder" in capsys.readouterr().err
