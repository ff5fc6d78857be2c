"""Augmented batches: the same on any number of processes, and none in validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emo.data.augment.config import AugmentConfig, MixupConfig
from emo.data.augment.draws import Draws
from emo.data.augment.mixup import mixed
from emo.data.config import PlanConfig
from emo.data.normalise.base import Moments
from emo.data.normalise.train import TrainStatistics
from emo.data.plan import Plan, PlanError, Share, check_slices
from emo.data.source import Batch, Supervision
from emo.data.steps import EvaluationSteps, TrainingSteps
from emo.data.utterances import Utterances, training_rows
from emo.mixing import PARTNER, WEIGHT, mix
from emo.runs.experiment import view_of
from shards.store.index import open_dataset

CPU = torch.device("cpu")
EVERYTHING = AugmentConfig(speed={}, spec={"time_width": 9}, mixup={"alpha": 0.5})


@pytest.fixture(scope="module")
def source(tiny, make_settings, tmp_path_factory):
    """The tiny dataset as an audio model's training reads it, all augmentations on."""
    from emo.config import ExperimentConfig

    raw = make_settings(tiny, tmp_path_factory.mktemp("runs") / "run")
    config = ExperimentConfig(**raw)
    data = config.data.model_copy(update={"augment": EVERYTHING})
    dataset = open_dataset(tiny)
    view = view_of(dataset, config)
    samples = Utterances(
        dataset,
        {"audio": "logmel"},
        Supervision.of(dataset, view, "hard"),
        statistics=TrainStatistics(Moments(np.zeros(16, "f4"), np.ones(16, "f4"), 1)),
        pad_token=0,
        config=data,
    )
    return samples, training_rows(dataset, view, data, audio=True)


def seen(source, share, start=0, world=1):
    """By row: what the model reads and the target, of the steps after `start`."""
    samples, rows = source
    plan = Plan(PlanConfig(), units=len(rows), global_batch=24, seed=5)
    state = replace(plan.start(), epoch=1, consumed=24 * start)
    steps = TrainingSteps(samples, rows, plan, state, epochs=2, share=share)
    result = {}
    for step in range(3 - start):
        for batch in steps[step]:
            x = samples.to_model(batch, CPU, torch.float32)
            assert PARTNER not in x  # the input is mixed already
            for place, row in enumerate(batch.row.tolist()):
                parts = (x["audio"][place], x["audio_mask"][place], batch.target[place])
                result[row] = [part.numpy().tobytes() for part in parts]
    return result


def test_batches_are_equal_on_1_2_and_3_processes_and_after_a_resume(source):
    alone = seen(source, Share())
    assert len(alone) == 72
    for world, accumulation in ((2, 1), (3, 1), (1, 3), (2, 2), (3, 4)):
        together = {}
        for rank in range(world):
            together |= seen(source, Share(world, rank, accumulation))
        assert together == alone
    resumed = seen(source, Share(), start=1)
    assert len(resumed) == 48
    assert all(alone[row] == value for row, value in resumed.items())


def test_validation_is_not_augmented(source):
    samples, rows = source
    steps = EvaluationSteps(samples, rows[:8], batch=8, share=Share())
    [batch] = [steps[0]]
    assert batch.draws is None
    x = samples.to_model(batch, CPU, torch.float32)
    assert x.keys() == {"audio", "audio_mask"}
    assert (
        batch.inputs["audio"].float().masked_fill(~x["audio_mask"][..., None], 0).equal(x["audio"])
    )
    drawn = replace(batch, draws=Draws(1, 0), inputs=dict(batch.inputs))
    drawn = mixed(drawn, EVERYTHING.mixup, Draws(1, 0))
    assert not samples.to_model(drawn, CPU, torch.float32)["audio"].equal(x["audio"])


def test_partners_must_fit_into_a_micro_batch():
    assert check_slices(24, 2, 3, together=2) == 4
    with pytest.raises(PlanError, match=r"2 partners of mixup = 8; the nearest that can: 8 or 16"):
        check_slices(12, 2, 2, together=2)


def test_targets_are_mixed_by_the_weight_and_empty_places_are_not_partners():
    target = torch.eye(4)
    batch = Batch(
        row=torch.tensor([7, 3, 5, -1]),
        valid=torch.tensor([True, True, True, False]),
        skipped=torch.zeros(4),
        target=target,
        inputs={},
    )
    one = mixed(batch, MixupConfig(alpha=1.0), Draws(1, 2))
    weight = one.inputs[WEIGHT]
    assert one.inputs[PARTNER].tolist() == [1, 0, 3, 2]
    assert ((weight[:2] >= 0.5) & (weight[:2] < 1)).all()
    assert weight[2:].tolist() == [1, 1]
    for place, partner in ((0, 1), (1, 0)):
        expected = weight[place] * target[place] + (1 - weight[place]) * target[partner]
        torch.testing.assert_close(one.target[place], expected)
    assert one.target[2:].equal(target[2:])
    nothing = mixed(batch, MixupConfig(chance=0.0), Draws(1, 2))
    assert nothing.target.equal(target)


def test_beta_weights_have_betas_mean_and_deviation():
    rows = torch.arange(20_000)
    batch = Batch(rows, rows >= 0, rows * 0, torch.zeros(20_000, 1), {})
    own = mixed(batch, MixupConfig(alpha=2.0), Draws(0, 0)).inputs[WEIGHT].double()
    assert abs(own.mean() - 0.6875) < 0.005  # 1/2 + E|x - 1/2| of Beta(2, 2)
    both = torch.cat((own, 1 - own))
    assert abs(both.var() - 0.05) < 0.001  # 1 / (4 (2 alpha + 1))


def test_a_weight_of_one_keeps_a_row_beside_nan():
    x = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    assert mix(x, torch.tensor([1.0, 1.0]), torch.tensor([1, 0]))[0].tolist() == [1.0, 2.0]
