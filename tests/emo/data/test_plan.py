"""The plan promises: every unit once, the same global order everywhere, resume by slicing."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.data import orders
from emo.data.config import PlanConfig
from emo.data.plan import (
    ORDERS,
    DataState,
    Plan,
    PlanError,
    UnitFacts,
    check_slices,
    evaluation_plan,
    rank_slices,
)

ROOT = Path(__file__).parents[3]


def make_plan(order, units, global_batch, seed=1, **settings_):
    """A plan over made-up facts, the same under every numpy."""
    spread = np.arange(units) * 2654435761 % 2**32 / 2**32  # looks uniform in 0..1
    config = PlanConfig(order=order, **settings_)
    return Plan(
        config,
        units=units,
        global_batch=global_batch,
        seed=seed,
        dataset_hash="abc",
        facts=UnitFacts(
            shards=np.cumsum(spread < 0.05),
            lengths=0.5 + 30 * spread**3,
            labels=np.searchsorted((0.6, 0.85, 0.95), spread),
            groups=np.split(np.arange(units * 3), np.arange(1, units) * 3),
        ),
    )


@st.composite
def layouts(draw):
    """(order, units, world, accumulation, global batch, seed, epoch)."""
    world = draw(st.sampled_from((1, 2, 3, 4, 8)))
    accumulation = draw(st.sampled_from((1, 2, 3)))
    return (
        draw(st.sampled_from(tuple(ORDERS))),
        draw(st.integers(1, 500)),
        world,
        accumulation,
        draw(st.integers(1, 6)) * world * accumulation,
        draw(st.integers(0, 5)),
        draw(st.integers(0, 4)),
    )


@given(layouts())
@settings(max_examples=150, deadline=None)
def test_every_unit_is_visited_once_over_all_ranks_and_rank_slices(layout):
    order, units, world, accumulation, global_batch, seed, epoch = layout
    batches = make_plan(order, units, global_batch, seed, window=64, block=8, pool=3).epoch(epoch)
    assert batches.dtype == np.int64
    assert batches.shape == (-(-units // global_batch), global_batch)
    assert (batches.ravel()[:units] >= 0).all()
    assert (batches.ravel()[units:] == -1).all()
    seen = []
    for step in batches:
        shares = [rank_slices(step, world, rank, accumulation) for rank in range(world)]
        sizes = {len(micro) for share in shares for micro in share}
        assert sizes == {global_batch // world // accumulation}
        assert {len(share) for share in shares} == {accumulation}
        together = np.concatenate([micro for share in shares for micro in share])
        assert np.array_equal(np.sort(together), np.sort(step))
        seen.append(together[together >= 0])
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(units))


@given(layouts(), st.integers(0, 10**6), st.sampled_from((1, 2, 3, 4, 8)))
@settings(max_examples=100, deadline=None)
def test_a_resumed_epoch_goes_on_as_if_nothing_had_happened(layout, stop, other_world):
    order, units, _, _, global_batch, seed, epoch = layout
    plan = make_plan(order, units, global_batch, seed)
    whole = plan.epoch(epoch)
    stop %= len(whole)
    state = DataState(seed, epoch, 0, global_batch, "abc", plan.fingerprint)
    for _ in range(stop):
        state = state.advance(units)
    saved = DataState.from_dict(json.loads(json.dumps(asdict(state))))

    again = make_plan(order, units, global_batch, seed)  # another process, another world size
    state = again.resume(saved)
    rest = again.epoch(state.epoch, state.consumed)
    assert np.array_equal(rest, whole[stop:])
    if global_batch % other_world == 0:
        shares = [rank_slices(rest, other_world, rank) for rank in range(other_world)]
        interleaved = np.stack(shares, axis=-1).reshape(rest.shape)
        assert np.array_equal(interleaved, whole[stop:])


@pytest.mark.parametrize("order", [o for o in ORDERS if o != "bucketed"])
def test_resume_under_another_global_batch_cuts_the_same_sequence_anew(order):
    before = make_plan(order, 1000, 48)
    state = before.start().advance(1000).advance(1000)
    after = make_plan(order, 1000, 20)
    state = after.resume(state)
    assert (state.consumed, state.global_batch) == (96, 20)
    assert np.array_equal(after.epoch(0, 96).ravel()[:904], before.epoch(0).ravel()[96:1000])


def test_state_counts_units_and_turns_over_at_the_end_of_an_epoch():
    plan = make_plan("shuffle", 100, 40)
    state, seen = plan.start(), []
    for _ in range(7):
        seen.append((state.epoch, state.consumed))
        state = state.advance(plan.units)
    assert seen == [(0, 0), (0, 40), (0, 80), (1, 0), (1, 40), (1, 80), (2, 0)]


def test_resume_refuses_what_would_repeat_or_skip_units():
    plan = make_plan("bucketed", 1000, 50)
    inside = plan.start().advance(1000)
    with pytest.raises(PlanError, match=r"was 50, now 25; set it back"):
        make_plan("bucketed", 1000, 25).resume(inside)
    with pytest.raises(PlanError, match="another plan"):
        make_plan("bucketed", 999, 50).resume(inside)
    with pytest.raises(PlanError, match="another plan"):
        make_plan("bucketed", 1000, 50, seed=2).resume(inside)
    with pytest.raises(PlanError, match="another plan"):
        make_plan("shuffle", 1000, 50).resume(inside)
    with pytest.raises(PlanError, match="trained on dataset abc, this is xyz"):
        Plan(PlanConfig(), units=9, global_batch=3, seed=1, dataset_hash="xyz").resume(inside)
    # Between epochs nothing can be repeated or skipped.
    assert make_plan("bucketed", 1000, 25).resume(plan.start()).global_batch == 25


@pytest.mark.parametrize(
    "wrong",
    [{"consumed": -1}, {"consumed": "12"}, {"consumed": True}, {"extra": 1}, {"epoch": None}],
)
def test_a_damaged_state_is_refused(wrong):
    good = asdict(make_plan("shuffle", 10, 2).start())
    with pytest.raises(PlanError, match=next(iter(wrong))):
        DataState.from_dict(good | wrong)
    good.pop("seed")
    with pytest.raises(PlanError, match="seed"):
        DataState.from_dict(good)


def test_orders_are_frozen():
    """These values may never change: a checkpoint inside an epoch relies on them."""
    sums = {o: crc32(make_plan(o, 5000, 64).epoch(3).astype("<i8").tobytes()) for o in ORDERS}
    assert sums == {
        "shuffle": 1113991861,
        "windowed": 4047707643,
        "bucketed": 1820827421,
        "balanced": 21613495,
        "dialogues": 1113991861,
    }
    assert orders.shuffled(orders.bit_stream(1, 0), 10).tolist() == [3, 0, 1, 6, 2, 9, 7, 5, 8, 4]


def test_another_process_makes_the_same_plan():
    code = (
        "from emo.data.config import PlanConfig; from emo.data.plan import Plan;"
        "p = Plan(PlanConfig(), units=1000, global_batch=7, seed=3);"
        "print(p.fingerprint, p.epoch(5).sum(axis=1).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    plan = Plan(PlanConfig(), units=1000, global_batch=7, seed=3)
    assert out.stdout.strip() == f"{plan.fingerprint} {plan.epoch(5).sum(axis=1).tolist()}"


@pytest.mark.parametrize("order", ORDERS)
def test_epochs_and_seeds_differ(order):
    plan, other = make_plan(order, 2000, 50), make_plan(order, 2000, 50, seed=2)
    for batches in (plan.epoch(1), other.epoch(0)):
        assert (batches == plan.epoch(0)).mean() < 0.1


@given(st.integers(0, 300), st.integers(1, 8), st.integers(1, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_evaluation_visits_each_unit_once_in_equally_many_steps(units, world, micro, sort):
    lengths = np.random.default_rng(units).integers(1, 9, units) if sort else None
    batches = evaluation_plan(units, world * micro, lengths)
    shares = [rank_slices(batches, world, rank) for rank in range(world)]
    assert len({share.shape for share in shares}) == 1
    seen = np.concatenate([share.ravel() for share in shares])
    assert np.array_equal(np.sort(seen[seen >= 0]), np.arange(units))
    assert len(seen) - units < world * micro
    flat = batches.ravel()[:units]
    assert (np.diff(flat) > 0).all() if lengths is None else (np.diff(lengths[flat]) <= 0).all()


def test_a_global_batch_that_cannot_be_cut_names_the_nearest_that_can():
    assert check_slices(64, 8, 2) == 4
    with pytest.raises(PlanError, match=r"60 cannot .* 8 processes x 2 .*: 48 or 64"):
        check_slices(60, 8, 2)
    with pytest.raises(PlanError, match=r"nearest that can: 8$"):
        rank_slices(np.arange(6), 8, 0)


@pytest.mark.parametrize(("order", "what"), [("windowed", "shard"), ("bucketed", "length")])
def test_missing_facts_are_named(order, what):
    with pytest.raises(PlanError, match=f"'{order}' needs the {what}"):
        Plan(PlanConfig(order=order), units=3, global_batch=1, seed=1)


def test_senseless_facts_and_sizes_are_refused():
    facts = np.array([1.0, np.nan, 2.0])
    with pytest.raises(PlanError, match="unit 1 has length nan"):
        Plan(
            PlanConfig(order="bucketed"),
            units=3,
            global_batch=1,
            seed=1,
            facts=UnitFacts(lengths=facts),
        )
    facts = np.array([0, 1, -1])
    with pytest.raises(PlanError, match="unit 2 has class -1"):
        Plan(
            PlanConfig(order="balanced"),
            units=3,
            global_batch=1,
            seed=1,
            facts=UnitFacts(labels=facts),
        )
    with pytest.raises(PlanError, match="0 units"):
        Plan(PlanConfig(), units=0, global_batch=1, seed=1)


def test_ten_million_units_on_1024_ranks_are_visited_once():
    units, world, accumulation = 10_000_000, 1024, 4
    plan = Plan(PlanConfig(order="windowed"), units=units, global_batch=16_384, seed=1,
                facts=UnitFacts(shards=np.arange(units, dtype=np.int32) // 1000))  # fmt: skip
    batches = plan.epoch(2)
    visits = np.zeros(units + 1, np.uint8)  # the last one counts padding (-1)
    for rank in range(world):
        mine = rank_slices(batches, world, rank, accumulation)
        assert mine.shape == (plan.steps_per_epoch, accumulation, 4)
        # Within a rank a unit must not occur twice either: `+=` on a fancy index adds only once,
        # so the total below would fall short.
        visits[mine] += 1
    assert (visits[:-1] == 1).all()
    assert batches.size - units == (batches == -1).sum()


@pytest.mark.parametrize("order", ["bucketed", "balanced"])
def test_planning_ten_million_units_stays_below_a_gigabyte(order):
    script = str(ROOT / "benchmarks" / "planning.py")
    done = subprocess.run(
        [sys.executable, script, "--order", order], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["peak_mb"] < 1000
