"""What a run's logs hold, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emo.metrics import WATCHED
from emo.runs import files
from emo.runs.tracking.others import TrackerMissing, check_installed
from emo.runs.tracking.tags import LAYOUT, tag_of
from emo.runs.tracking.tracker import Tracker

ALL = {"scalars": 0, "images": 0, "audio": 0, "tensors": 0}  # TensorBoard's reader: keep them all


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run), size_guidance=ALL)
    found.Reload()
    return found


def steps_of(run: Path) -> dict[str, list[int]]:
    """The steps of every tag of every kind."""
    found = events(run)
    readers: dict[str, Callable[[str], Any]] = {
        "scalars": found.Scalars, "images": found.Images, "audio": found.Audio,
        "tensors": found.Tensors,
    }  # fmt: skip
    return {
        f"{kind} {tag}": [event.step for event in read(tag)]
        for kind, read in readers.items()
        for tag in found.Tags()[kind]
    }


def text(run: Path, name: str) -> str:
    [event] = events(run).Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_a_trained_run_shows_its_course_and_its_result(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["text"]
    tags = set(events(run).Tags()["scalars"])
    assert {"loss/train", "loss/val", "gradient/norm", "learning_rate/rest"} <= tags
    assert {"speed/samples_per_second", "speed/data_wait_share", "memory/process"} <= tags
    assert {
        f"val/{metric.name}" for metric in WATCHED if metric.name not in ("loss", "ccc")
    } <= tags
    facts = json.loads(files.metrics(run).read_text())
    assert {f"recall/{name}" for name in facts["classes"]} <= tags
    assert "strategy cpu" in text(run, "run")
    assert "global_batch: 24" in text(run, "settings")
    table = text(run, "test/confusion")
    for name, counts in zip(facts["classes"], facts["parts"]["test"]["confusion"], strict=True):
        assert f"| {name} | {' | '.join(map(str, counts))} |" in table


def test_validation_recalls_average_to_ua(trained_runs: dict[str, Path]) -> None:
    found = events(trained_runs["fusion"])
    names = [tag for tag in found.Tags()["scalars"] if tag.startswith("recall/")]
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
    assert ["launched" in line for line in lines] == [True, False, True]
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("loss/train")] == [
        (1, 1.0), (2, 2.0), (3, 30.0)
    ]  # fmt: skip


def test_facts_of_launches_and_of_the_result_are_there_once(tmp_path: Path) -> None:
    """Killed before its first checkpoint, evaluated, evaluated again, and trained further."""

    def launch(step: int | None, *steps: int) -> None:
        tracker = Tracker(tmp_path, main=True, step=step)
        tracker.describe("run", f"launch {tracker.launch}", tracker.launch)
        for one in steps:
            tracker.write(one, "train", {"loss": float(one)})
            tracker.picture("confusion/val", np.zeros((4, 4, 3), np.uint8), one)
        tracker.show({"result_test/wa": 0.5}, tracker.after)
        tracker.close()

    launch(0, 1, 2)
    launch(0, 1, 2, 3)
    launch(None)
    launch(None)
    launch(3, 4, 5)
    for tag, steps in steps_of(tmp_path).items():
        assert steps == sorted(set(steps)), tag
    assert [e.step for e in events(tmp_path).Scalars("loss/train")] == [1, 2, 3, 4, 5]
    assert [e.step for e in events(tmp_path).Scalars("result_test/wa")] == [6]
    assert len(events(tmp_path).Images("confusion/val")) == 5


def test_event_files_of_earlier_versions_go_on_under_the_name_of_the_run(tmp_path: Path) -> None:
    old = Tracker(tmp_path / "x", main=True, step=0) if (tmp_path / "x").mkdir() is None else None
    assert old is not None
    old.write(1, "train", {"loss": 1.0})
    old.close()
    (tmp_path / files.OLD_TENSORBOARD).mkdir()
    for path in (tmp_path / "x").glob("events*"):
        path.rename(tmp_path / files.OLD_TENSORBOARD / path.name)
    new = Tracker(tmp_path, main=True, step=1)
    assert new.launch == 2
    new.write(2, "train", {"loss": 2.0})
    new.close()
    assert [e.step for e in events(tmp_path).Scalars("loss/train")] == [1, 2]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, main=False, step=0)
    tracker.write(1, "train", {"loss": 1.0})
    tracker.describe("run", "text", 1)
    tracker.picture("one", np.zeros((4, 4, 3), np.uint8), 1)
    tracker.say("nothing")
    tracker.close()
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_there_is_the_log_alone(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, main=True, step=0, to=())
    tracker.write(1, "train", {"loss": 1.0})
    tracker.picture("one", np.zeros((4, 4, 3), np.uint8), 1)
    tracker.close()
    assert [path.name for path in tmp_path.iterdir()] == [files.LOG]


def test_a_tracker_that_is_not_installed_is_named() -> None:
    check_installed(["tensorboard"])
    with pytest.raises(TrackerMissing, match=r"wandb and mlflow.*pip install wandb mlflow"):
        check_installed(["tensorboard", "wandb", "mlflow"])


def test_every_chart_has_a_tag_and_no_tag_needs_cleaning() -> None:
    tags = {
        tag_of(group, name)
        for group, names in {
            "train": ("loss", "gradient_norm", "lr_rest", "samples_per_second", "data_wait_share",
                      "memory_process", "energy_gpu"),
            "val": ("wa", "macro_f1", "loss"),
            "val_recall": ("anger",), "val_valence": ("ccc", "rmse"),
        }.items()
        for name in names
    }  # fmt: skip
    import re

    for charts in LAYOUT.values():
        for title, patterns in charts.items():
            assert any(re.fullmatch(one, tag) for one in patterns for tag in tags), title
