"""What a run's logs hold, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emo.metrics import WATCHED
from emo.runs import files
from emo.runs.tracker import Tracker


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / files.TENSORBOARD))
    found.Reload()
    return found


def text(run: Path, name: str) -> str:
    [event] = events(run).Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_a_trained_run_shows_its_course_and_its_result(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["text"]
    tags = set(events(run).Tags()["scalars"])
    assert {"train/loss", "train/gradient_norm", "train/lr_rest", "train/samples_per_second",
            "train/data_wait_share"} <= tags  # fmt: skip
    assert {f"val/{metric.name}" for metric in WATCHED} <= tags
    assert {"val/wa", "val/ua", "val/weighted_f1", "val/loss"} <= tags
    facts = json.loads(files.metrics(run).read_text())
    assert {f"val_recall/{name}" for name in facts["classes"]} <= tags
    assert "strategy cpu" in text(run, "run")
    table = text(run, "test/confusion")
    for name, counts in zip(facts["classes"], facts["parts"]["test"]["confusion"], strict=True):
        assert f"| {name} | {' | '.join(map(str, counts))} |" in table


def test_validation_recalls_average_to_ua(trained_runs: dict[str, Path]) -> None:
    found = events(trained_runs["fusion"])
    names = [tag for tag in found.Tags()["scalars"] if tag.startswith("val_recall/")]
    for place, ua in enumerate(found.Scalars("val/ua")):
        mean = sum(found.Scalars(name)[place].value for name in names) / len(names)
        assert mean == pytest.approx(ua.value, abs=1e-6)


def test_what_a_killed_launch_logged_beyond_its_checkpoint_is_written_again(tmp_path: Path) -> None:
    first = Tracker(tmp_path, main=True, step=0)
    for step in (1, 2, 3):
        first.write(step, "train", {"loss": float(step)})
    first.close()
    log = tmp_path / files.LOG
    log.write_text(log.read_text() + '{"step": 4, "gro')  # killed in the middle of a line
    second = Tracker(tmp_path, main=True, step=2)
    second.write(3, "train", {"loss": 30.0})
    second.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("train/loss")] == [
        (1, 1.0), (2, 2.0), (3, 30.0)
    ]  # fmt: skip


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, main=False, step=0)
    tracker.write(1, "train", {"loss": 1.0})
    tracker.describe("run", "text", 1)
    tracker.say("nothing")
    tracker.close()
    assert not list(tmp_path.iterdir())
