"""Checkpoints are written beside training: it goes on meanwhile, and hears of what went wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emo.config import ExperimentConfig
from emo.data.plan import DataState
from emo.distributed.runtime import Runtime
from emo.runs import checkpoint
from emo.runs.checkpoint import Progress
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from emo.training.saver import Saver
from shards import atomic
from shards.configfile import parse

DATA = DataState(seed=1, epoch=0, consumed=4, global_batch=4, dataset_hash="none", plan="none")


@pytest.fixture
def run(make_settings: Any, tmp_path: Any) -> Run:
    """Of one linear layer whose every weight is the number of the step."""
    config = parse(ExperimentConfig, make_settings(tmp_path, tmp_path / "run"), "the test")
    runtime = Runtime.start(config.runtime, accumulation=1, micro_batch=4, clip=1.0)
    model = torch.nn.Linear(3, 3)
    setting: Any = SimpleNamespace(config=config)
    tracker = Tracker(config.run, main=False, step=0)
    return Run(runtime, setting, model, tracker, torch.optim.Adam(model.parameters()))


@pytest.fixture
def pen(monkeypatch: Any) -> threading.Event:
    """Nothing is written before this is set."""
    allowed, write = threading.Event(), checkpoint.write_tensors

    def wait(*arguments: Any) -> None:
        assert allowed.wait(60)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "write_tensors", wait)
    return allowed


def set_weights(run: Run, value: float) -> None:
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.fill_(value)


def test_training_goes_on_while_the_copy_is_written(run: Run, pen: threading.Event) -> None:
    saver, folder = Saver(run), run.config.run / "checkpoints"
    set_weights(run, 1)
    saver.save(Progress(step=1, data=DATA))
    set_weights(run, 2)  # the next step, before anything is written
    assert checkpoint.newest(folder) == (None, [])
    pen.set()
    saver.finish()
    path, damaged = checkpoint.newest(folder)
    assert path == folder / "step-00000001"
    assert not damaged
    assert all((weight == 1).all() for weight in checkpoint.read_weights(path).values())


def test_the_next_save_waits_for_the_one_before(run: Run, pen: threading.Event) -> None:
    saver, folder = Saver(run), run.config.run / "checkpoints"
    saver.save(Progress(step=1, data=DATA))
    threading.Timer(0.2, pen.set).start()
    saver.save(Progress(step=2, data=DATA))
    assert (folder / "step-00000001").is_dir()
    saver.finish()
    assert (folder / "step-00000002").is_dir()
    assert not list(folder.glob("*.tmp"))


def test_a_full_disk_is_heard_of_and_costs_no_earlier_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, folder = Saver(run), run.config.run / "checkpoints"
    first = Progress(step=1, data=DATA)
    saver.save(first)
    saver.finish()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    saver.save(replace(first, step=2))
    saver.close()
    assert isinstance(saver.error, atomic.DiskFull)  # what the next vote tells the other ranks
    with pytest.raises(atomic.DiskFull, match="no room left"):
        saver.finish()
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
