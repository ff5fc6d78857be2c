"""Mixed corpora: what the plan promises of every order holds, and the shares are what was asked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.data.config import DataConfig, PlanConfig
from emo.data.corpora.mixture import Mixture
from emo.data.corpora.union import mixture_of, open_data
from emo.data.plan import ORDERS, DataState, Plan, PlanError, UnitFacts, rank_slices
from shards.configfile import ConfigError, parse

ROOT = Path(__file__).parents[4]
MIXED = [order for order in ORDERS if order != "dialogues"]


def mixed_plan(
    order: str, units: int, global_batch: int, seed: int = 1, *, weights: Any = (1, 2, 1)
) -> Plan:
    """Three corpora over made-up facts; the units of each lie together, as those of datasets do."""
    spread = np.arange(units) * 2654435761 % 2**32 / 2**32
    corpus = np.minimum(np.arange(units) * 6 // max(units, 1), 5)  # 1/6, 1/2 and 1/3 of the units
    corpus = np.array([0, 1, 1, 1, 2, 2])[corpus]
    shares = np.array(weights, float) * (np.bincount(corpus, minlength=3) > 0)
    facts = UnitFacts(
        shards=np.cumsum(spread < 0.05),
        lengths=0.5 + 30 * spread**3,
        labels=np.searchsorted((0.6, 0.85, 0.95), spread),
        mixture=Mixture(corpus, shares / shares.sum()),
    )
    config = PlanConfig(order=order, window=64, block=8, pool=3)
    return Plan(config, units=units, global_batch=global_batch, seed=seed, dataset_hash="abc",
                facts=facts)  # fmt: skip


@st.composite
def layouts(draw: Any) -> Any:
    """(order, units, world, accumulation, global batch, seed, epoch, weights)."""
    world, accumulation = draw(st.sampled_from((1, 2, 3, 4, 8))), draw(st.sampled_from((1, 2, 3)))
    weight = st.sampled_from((0.01, 0.5, 1, 2, 30))
    return (
        draw(st.sampled_from(MIXED)),
        draw(st.integers(6, 500)),
        world,
        accumulation,
        draw(st.integers(1, 6)) * world * accumulation,
        draw(st.integers(0, 5)),
        draw(st.integers(0, 4)),
        draw(st.tuples(weight, weight, weight)),
    )


@given(layouts())
@settings(max_examples=150, deadline=None)
def test_every_unit_is_visited_as_often_as_it_should_over_all_ranks(layout: Any) -> None:
    order, units, world, accumulation, global_batch, seed, epoch, weights = layout
    plan = mixed_plan(order, units, global_batch, seed, weights=weights)
    batches = plan.epoch(epoch)
    assert batches.dtype == np.int64
    assert batches.shape == (-(-units // global_batch), global_batch)
    assert (batches.ravel()[:units] >= 0).all()
    assert (batches.ravel()[units:] == -1).all()
    shares = [
        np.concatenate([rank_slices(step, world, rank, accumulation) for step in batches])
        for rank in range(world)
    ]
    assert len({share.shape for share in shares}) == 1
    seen = np.concatenate([share.ravel() for share in shares])
    counts = np.bincount(seen[seen >= 0], minlength=units)
    assert np.array_equal(counts, plan.visits(epoch))
    assert plan.mixture is not None
    own = np.bincount(plan.mixture.corpus, weights=counts, minlength=3)
    assert np.array_equal(own, plan.mixture.sizes)
    for number, passes in enumerate(plan.mixture.passes):
        mine = counts[plan.mixture.corpus == number]
        assert (mine >= np.floor(passes) - (passes % 1 > 0)).all()
        assert (mine <= np.ceil(passes) + 1).all()


@given(st.integers(6, 300), st.integers(0, 5), st.integers(1, 40),
       st.tuples(*[st.sampled_from((0.05, 1, 3, 20))] * 3))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_each_pass_through_a_corpus_uses_every_unit_once(
    units: int, seed: int, epochs: int, weights: Any
) -> None:
    mixture = mixed_plan("shuffle", units, 8, seed, weights=weights).mixture
    assert mixture is not None
    total = sum(mixture.visits(seed, epoch) for epoch in range(epochs))
    for number, size in enumerate(mixture.sizes):
        own = total[mixture.corpus == number]
        assert own.sum() == size * epochs
        assert own.max(initial=0) - own.min(initial=10**9) <= 1  # whole passes, and one begun
        assert (own // 1 >= size * epochs // len(own)).all()


@given(layouts())
@settings(max_examples=80, deadline=None)
def test_sizes_are_the_shares_to_one_unit(layout: Any) -> None:
    units, weights = layout[1], layout[-1]
    mixture = mixed_plan("shuffle", units, 8, weights=weights).mixture
    assert mixture is not None
    assert mixture.sizes.sum() == units
    assert (mixture.sizes >= 1).all()
    if (mixture.shares * units >= 1).all():
        assert (abs(mixture.sizes - mixture.shares * units) < 1).all()


@given(layouts(), st.integers(0, 10**6), st.sampled_from((1, 2, 3, 4, 8)))
@settings(max_examples=80, deadline=None)
def test_a_resumed_epoch_goes_on_as_if_nothing_had_happened(
    layout: Any, stop: int, other_world: int
) -> None:
    order, units, _, _, global_batch, seed, epoch, weights = layout
    plan = mixed_plan(order, units, global_batch, seed, weights=weights)
    whole = plan.epoch(epoch)
    stop %= len(whole)
    state = DataState(seed, epoch, 0, global_batch, "abc", plan.fingerprint)
    for _ in range(stop):
        state = state.advance(units)
    saved = DataState.from_dict(json.loads(json.dumps(asdict(state))))
    again = mixed_plan(order, units, global_batch, seed, weights=weights)
    state = again.resume(saved)
    rest = again.epoch(state.epoch, state.consumed)
    assert np.array_equal(rest, whole[stop:])
    if global_batch % other_world == 0:
        shares = [rank_slices(rest, other_world, rank) for rank in range(other_world)]
        assert np.array_equal(np.stack(shares, axis=-1).reshape(rest.shape), whole[stop:])


@pytest.mark.parametrize("order", [o for o in MIXED if o != "bucketed"])
def test_resume_under_another_global_batch_cuts_the_same_sequence_anew(order: str) -> None:
    before, after = mixed_plan(order, 1000, 48), mixed_plan(order, 1000, 20)
    state = after.resume(before.start().advance(1000).advance(1000))
    assert (state.consumed, state.global_batch) == (96, 20)
    assert np.array_equal(after.epoch(0, 96).ravel()[:904], before.epoch(0).ravel()[96:1000])


def test_other_shares_cannot_continue_an_epoch() -> None:
    inside = mixed_plan("shuffle", 1000, 50).start().advance(1000)
    with pytest.raises(PlanError, match="another plan"):
        mixed_plan("shuffle", 1000, 50, weights=(1, 1, 1)).resume(inside)
    plain = Plan(PlanConfig(), units=1000, global_batch=50, seed=1, dataset_hash="abc")
    with pytest.raises(PlanError, match="another plan"):
        plain.resume(inside)


def test_mixed_orders_are_frozen() -> None:
    """These values may never change: a checkpoint inside an epoch relies on them."""
    sums = {o: crc32(mixed_plan(o, 5000, 64).epoch(3).astype("<i8").tobytes()) for o in MIXED}
    assert sums == {
        "shuffle": 228757226,
        "windowed": 1088956184,
        "bucketed": 3179792003,
        "balanced": 2478782946,
    }


def test_another_process_makes_the_same_plan() -> None:
    code = (
        "import numpy as np; from emo.data.config import PlanConfig;"
        "from emo.data.plan import Plan, UnitFacts; from emo.data.corpora.mixture import Mixture;"
        "m = Mixture(np.arange(1000) // 700, np.array([.5, .5]));"
        "p = Plan(PlanConfig(), units=1000, global_batch=7, seed=3, facts=UnitFacts(mixture=m));"
        "print(p.fingerprint, p.epoch(5).sum(axis=1).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    mixture = Mixture(np.arange(1000) // 700, np.array([0.5, 0.5]))
    plan = Plan(PlanConfig(), units=1000, global_batch=7, seed=3, facts=UnitFacts(mixture=mixture))
    assert done.stdout.strip() == f"{plan.fingerprint} {plan.epoch(5).sum(axis=1).tolist()}"


@pytest.mark.parametrize("order", MIXED)
def test_epochs_and_seeds_differ(order: str) -> None:
    plan, other = mixed_plan(order, 2000, 50), mixed_plan(order, 2000, 50, seed=2)
    for batches in (plan.epoch(1), other.epoch(0)):
        assert (batches == plan.epoch(0)).mean() < 0.1


def test_a_balanced_epoch_has_the_shares_in_every_batch() -> None:
    plan = mixed_plan("balanced", 1200, 60, weights=(1, 1, 1))
    assert plan.mixture is not None
    cells = plan.mixture.corpus * 4 + np.searchsorted(
        (0.6, 0.85, 0.95), np.arange(1200) * 2654435761 % 2**32 / 2**32
    )
    plan = Plan(plan.config, units=1200, global_batch=60, seed=1,
                facts=UnitFacts(labels=cells, mixture=plan.mixture))  # fmt: skip
    for batch in plan.epoch(2):
        assert (abs(np.bincount(plan.mixture.corpus[batch], minlength=3) - 20) <= 4).all()


def test_shares_of_the_configuration(two: tuple[Path, Path]) -> None:
    both = open_data(two)
    rows = np.arange(len(both))
    own = np.bincount(np.asarray(both.corpus))  # type: ignore[attr-defined]

    def mixture(**more: Any) -> Mixture | None:
        raw = {"shards": [str(one) for one in two]} | more
        return mixture_of(both, rows, parse(DataConfig, raw, "the test"))

    assert mixture() is None
    assert mixture(mix={"by": "size"}) is None
    one = mixture(mix={"by": "temperature", "temperature": 1})
    assert one is not None
    assert np.allclose(one.shares, own / own.sum())
    assert np.array_equal(one.visits(3, 5), np.ones(len(rows)))  # as by size
    hot = mixture(mix={"by": "temperature", "temperature": 2})
    assert hot is not None
    assert np.allclose(hot.shares, own**0.5 / (own**0.5).sum())
    weighted = mixture(shards={str(two[1]): 3, str(two[0]): 1})
    assert weighted is not None
    assert weighted.shares.tolist() == [0.25, 0.75]
    only = mixture_of(
        both,
        np.flatnonzero(both.column("corpus") == "alba"),
        parse(DataConfig, {"shards": {str(two[0]): 1, str(two[1]): 3}}, "the test"),
    )
    assert only is not None
    assert only.shares.tolist() == [1, 0]  # the other is left out: nothing of it trains
    for raw in ({"shards": "a", "mix": {"by": "shares"}},
                {"shards": {"a": 1, "b": 2}, "mix": {"by": "size"}}):  # fmt: skip
        with pytest.raises(ConfigError, match=r"write data\.shards as \{FOLDER: WEIGHT"):
            parse(DataConfig, raw, "the test")
