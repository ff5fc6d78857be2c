"""Orders: each is as random as it can be beside what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.data import orders
from emo.data.config import PlanConfig
from emo.data.plan import (
    Plan,
    PlanError,
    UnitFacts,
)


def padding_share(batches: np.ndarray, lengths: np.ndarray) -> float:
    """Share of padding if each batch is padded to its longest unit; missing units (-1) count not.

    Args:
        batches: int64 [steps, global batch], -1 for no unit.
        lengths: [units].
    """
    valid = batches >= 0
    taken = np.where(valid, lengths[np.maximum(batches, 0)], 0)
    return float(1 - taken.sum() / (taken.max(axis=1) * valid.sum(axis=1)).sum())


def test_shuffle_is_uniform():
    bits = orders.bit_stream(0, 0)
    counts = np.zeros((6, 6))
    for _ in range(6000):
        counts[np.arange(6), orders.shuffled(bits, 6)] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 60  # chi-squared, 25 degrees of freedom


def test_windowed_reads_few_contiguous_ranges_of_few_shards():
    units, per_shard, block, window = 20_000, 500, 50, 1000
    shards = np.arange(units) // per_shard
    config = PlanConfig(order="windowed", shards_open=4, block=block, window=window)
    order = Plan(
        config, units=units, global_batch=100, seed=1, facts=UnitFacts(shards=shards)
    ).order(0)
    positions = []
    for read in order.reshape(-1, window):
        assert len(np.unique(read // block)) == window // block
        assert len(np.unique(shards[read])) <= 4
        positions.append(np.corrcoef(read, np.arange(window))[0, 1])
    assert abs(np.mean(positions)) < 0.1
    assert len({tuple(np.unique(shards[r])) for r in order.reshape(-1, 4 * per_shard)}) == 10


def test_bucketed_pads_at_most_a_tenth_on_speech_like_lengths():
    random = np.random.default_rng(5)
    for units in (5_531, 7_380, 50_000):
        lengths = random.lognormal(1.3, 0.6, units).clip(0.585, 34.1)  # mean 4.4 s
        plan = Plan(
            PlanConfig(order="bucketed"),
            units=units,
            global_batch=64,
            seed=1,
            facts=UnitFacts(lengths=lengths),
        )
        shares = [padding_share(plan.epoch(e), lengths) for e in range(3)]
        assert max(shares) <= 0.1
        shuffled = Plan(PlanConfig(), units=units, global_batch=64, seed=1).epoch(0)
        assert padding_share(shuffled, lengths) > 0.5
    mates = [set(batch) for batch in plan.epoch(0)[:-1]]
    again = {unit: set(batch) for batch in plan.epoch(1) for unit in batch}
    kept = np.mean([len(m & again[next(iter(m))]) / 64 for m in mates])
    assert kept < 0.5, "batches should not hold the same units every epoch"


def test_bucketed_mixes_units_of_one_length():
    plan = Plan(
        PlanConfig(order="bucketed"),
        units=640,
        global_batch=64,
        seed=1,
        facts=UnitFacts(lengths=np.zeros(640)),
    )
    assert len(np.unique(plan.epoch(0)[0] // 64)) > 5


@given(st.integers(0, 100), st.integers(50, 1500), st.integers(10, 64))
@settings(max_examples=60, deadline=None)
def test_balanced_batches_mirror_the_classes(seed, units, global_batch):
    random = np.random.default_rng(seed)
    labels = random.choice(5, units, p=random.dirichlet(np.ones(5)))
    plan = Plan(
        PlanConfig(order="balanced"),
        units=units,
        global_batch=global_batch,
        seed=seed,
        facts=UnitFacts(labels=labels),
    )
    share = np.bincount(labels, minlength=5) / units
    for batch in plan.epoch(0):
        real = batch[batch >= 0]
        counts = np.bincount(labels[real], minlength=5)
        assert (abs(counts - len(real) * share) <= 2 + 2 * 5 * share).all()


def test_balanced_is_steadier_than_shuffle():
    labels = np.random.default_rng(0).choice(5, 7380, p=(0.15, 0.25, 0.22, 0.23, 0.15))
    spread = {}
    for order in ("shuffle", "balanced"):
        config = PlanConfig(order=order)
        plan = Plan(config, units=7380, global_batch=64, seed=1, facts=UnitFacts(labels=labels))
        spread[order] = (labels[plan.epoch(0)[:-1]] == 1).sum(axis=1).std()
    assert spread["balanced"] < spread["shuffle"] / 4


def test_dialogues_stay_whole_and_their_rows_come_once():
    groups = [np.arange(7, 9), np.arange(3), np.array([5, 3, 4, 6]), np.array([9])]
    plan = Plan(
        PlanConfig(order="dialogues"),
        units=4,
        global_batch=3,
        seed=1,
        facts=UnitFacts(groups=groups),
    )
    batches = plan.epoch(0)
    assert batches.shape == (2, 3)
    assert (batches[1, 1:] == -1).all()  # padding has no dialogue
    assert sorted(batches[batches >= 0]) == [0, 1, 2, 3]
    twice = UnitFacts(groups=groups[1:2] * 2)
    with pytest.raises(PlanError, match="two dialogues"):
        Plan(PlanConfig(order="dialogues"), units=2, global_batch=1, seed=1, facts=twice)
    with pytest.raises(PlanError, match="the rows of each dialogue"):
        Plan(PlanConfig(order="dialogues"), units=2, global_batch=1, seed=1)
