"""Early stopping and the schedule newbob: what they decide, and that a stop does not change it."""

import json
from itertools import pairwise

import pytest

from emo.config import ExperimentConfig
from emo.runs import checkpoint, files
from emo.runs.finished import is_finished
from emo.training.config import OptimConfig
from emo.training.optim import newbob
from emo.training.train import train


def test_newbob_lowers_the_rate_where_the_loss_has_not_fallen_enough():
    config = OptimConfig(schedule="newbob", newbob={"factor": 0.5, "threshold": 0.1})
    rate, rates = 1.0, []
    losses = [None, 2.0, 1.7, 1.6, 1.6, 1.0, 1.1]
    for last, loss in pairwise(losses):
        rate = newbob(rate, loss, last, config)
        rates.append(rate)
    assert rates == [1.0, 1.0, 0.5, 0.25, 0.25, 0.125]
    assert newbob(1.0, 5.0, 1.0, OptimConfig()) == 1.0


@pytest.fixture(scope="module")
def run(tiny, make_settings, tmp_path_factory):
    """A run that cannot get better: its rate is next to nothing, and newbob lowers it further."""
    raw = make_settings(
        tiny,
        tmp_path_factory.mktemp("patience") / "run",
        train__epochs=6,
        train__patience=2,
        optim={"lr": 1e-30, "schedule": "newbob", "newbob": {"factor": 0.1}},
        resume="auto",
    )
    assert train(ExperimentConfig(**raw)) == "done"
    return raw


def progress(raw):
    folder = files.checkpoints(ExperimentConfig(**raw).run)
    path, _ = checkpoint.newest(folder)
    assert path is not None
    return checkpoint.Progress.from_json((path / checkpoint.STATE).read_text())


def test_training_ends_where_patience_does(run):
    ended = progress(run)
    assert (ended.validated, ended.stale) == (3, 2)  # the first was the best
    assert ended.rate == pytest.approx(0.01)
    config = ExperimentConfig(**run)
    assert is_finished(config.run)
    lines = [json.loads(line) for line in (config.run / files.LOG).read_text().splitlines()]
    rates = [line["lr_rest"] for line in lines if "lr_rest" in line]
    assert rates[0] == pytest.approx(1e-30)
    assert rates[-1] == pytest.approx(1e-31)


def test_resuming_takes_no_further_step_and_more_patience_does(run):
    before = progress(run)
    assert train(ExperimentConfig(**run)) == "done"
    assert progress(run) == before
    assert train(ExperimentConfig(**run | {"train": run["train"] | {"patience": 3}})) == "done"
    assert progress(run).validated == 4
