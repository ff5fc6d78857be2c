"""The plan: which unit is read at which step by which rank, as arithmetic on a few numbers.

A plan is a pure function of (seed, epoch, global batch, world, rank). It fixes the order of an
epoch and cuts it into *global* batches; rank, world size and accumulation only slice those. From
that follow, without any communication or bookkeeping: every unit exactly once an epoch on any
number of ranks, the same global batches at every world size, and resume by slicing.

Units are numbered `0 .. units-1`: positions in the view's training rows, or dialogues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt

from emo.data import orders
from shards.configfile import Config, digest
from shards.errors import UserError


class PlanError(UserError):
    """A plan that cannot be made, sliced or resumed as asked."""


class PlanConfig(Config):
    """How an epoch is ordered.

    `shuffle`: uniform. `windowed`: shards, blocks, then units in a window, for slow filesystems.
    `bucketed`: batches of like length. `balanced`: every batch mirrors the classes' proportions.
    `dialogues`: shuffled dialogues, kept whole; the global batch then counts dialogues.
    """

    order: Literal["shuffle", "windowed", "bucketed", "balanced", "dialogues"] = "shuffle"
    shards_open: PositiveInt = 8  # windowed: shards mixed with one another
    block: PositiveInt = 64  # windowed: consecutive units of a shard that are read together
    window: PositiveInt = 2048  # windowed: positions inside which units are shuffled
    pool: PositiveInt = 100  # bucketed: batches that are sorted by length together


@dataclass(frozen=True, slots=True)
class DataState:
    """Where training stands in its data; all that a checkpoint must keep of it.

    `consumed` counts the units of epoch `epoch` that finished steps have used (never prefetched
    ones). `plan` is `Plan.fingerprint`, so that another order, view or label set is noticed.
    """

    seed: int
    epoch: int
    consumed: int
    global_batch: int
    dataset_hash: str
    plan: str

    def advance(self, units: int) -> DataState:
        """The state after one more optimizer step of an epoch of `units` units."""
        consumed = min(self.consumed + self.global_batch, units)
        if consumed == units:
            return replace(self, epoch=self.epoch + 1, consumed=0)
        return replace(self, consumed=consumed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataState:
        """The inverse of `to_dict`.

        Raises:
            PlanError: a key is missing, unknown, or holds a value of the wrong kind.
        """
        kinds: dict[str, type] = {f.name: int if f.type == "int" else str for f in fields(cls)}
        wrong = sorted(set(kinds) ^ set(values))
        wrong += [k for k in kinds if k in values and type(values[k]) is not kinds[k]]
        wrong += [k for k in kinds if type(values.get(k)) is int and values[k] < 0]
        if wrong:
            raise PlanError(
                f"the checkpoint's data state cannot be used: {', '.join(wrong)} missing, unknown "
                f"or of the wrong kind in {dict(values)}; resume from another checkpoint"
            )
        return cls(**values)


class Plan:
    """The training plan of one view.

    Args:
        units: number of units; every one is visited once an epoch.
        global_batch: units a step, over all ranks and accumulation steps.
        shards: int [units], needed by `windowed`.
        lengths: int or float [units], needed by `bucketed`.
        labels: int [units], needed by `balanced`.
        groups: rows of each unit (int [turns] each), needed by `dialogues`.

    Raises:
        PlanError: nothing to visit, or the order's facts are missing or of the wrong size.
    """

    def __init__(
        self,
        config: PlanConfig,
        *,
        units: int,
        global_batch: int,
        seed: int,
        dataset_hash: str = "",
        shards: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        groups: Sequence[np.ndarray] | None = None,
    ) -> None:
        if units < 1 or global_batch < 1:
            raise PlanError(
                f"a plan needs at least one unit and a global batch of at least one, not {units} "
                f"units and global_batch {global_batch}; check the view and the batch size"
            )
        self.config, self.units, self.global_batch = config, units, global_batch
        self.seed, self.dataset_hash, self.groups = seed, dataset_hash, groups
        self.steps_per_epoch = -(-units // global_batch)
        needed = {"windowed": shards, "bucketed": lengths, "balanced": labels}.get(config.order)
        self._fact = self._check_fact(needed)
        recipe = [config.model_dump(mode="json"), units, seed, _hash_array(self._fact)]
        self.fingerprint = digest(recipe)[:16]

    def order(self, epoch: int) -> np.ndarray:
        """The units of epoch `epoch` in the order of their use, int64 [units]."""
        bits, config, fact = orders.bit_stream(self.seed, epoch), self.config, self._fact
        if config.order == "windowed":
            return orders.windowed(bits, fact, config.shards_open, config.block, config.window)
        if config.order == "bucketed":
            return orders.bucketed(bits, fact, self.global_batch, config.pool)
        if config.order == "balanced":
            return orders.balanced(bits, fact)
        return orders.shuffled(bits, self.units)

    def epoch(self, epoch: int, consumed: int = 0) -> np.ndarray:
        """The global batches of epoch `epoch` that are left after `consumed` units.

        Returns int64 [steps, global_batch]; -1 (no unit) only at the end of the last batch.
        Its cost does not depend on `consumed`.
        """
        return _in_batches(self.order(epoch)[consumed:], self.global_batch)

    def rows(self, units: np.ndarray) -> list[np.ndarray]:
        """The rows of each dialogue among `units` (order `dialogues`); -1 gives an empty one."""
        assert self.groups is not None, "only dialogue plans have groups"
        empty = np.empty(0, np.int64)
        return [self.groups[unit] if unit >= 0 else empty for unit in units]

    def start(self) -> DataState:
        """The state before the first step."""
        return DataState(self.seed, 0, 0, self.global_batch, self.dataset_hash, self.fingerprint)

    def resume(self, state: DataState) -> DataState:
        """`state` made fit for this plan; `epoch(state.epoch, state.consumed)` then goes on.

        The world size plays no part. Another global batch is taken over where the order does not
        depend on it: the rest of the epoch is the same sequence, cut anew. Only `bucketed` orders
        by batches, and takes another global batch at an epoch's start alone.

        Raises:
            PlanError: the state belongs to another dataset, or (inside an epoch) to another
                order, seed or view, or its bucketed global batch was another one.
        """
        if state.dataset_hash != self.dataset_hash:
            raise PlanError(
                f"the checkpoint was trained on dataset {state.dataset_hash or '(none)'}, this is "
                f"{self.dataset_hash or '(none)'}; resume with the same shards or start a new run"
            )
        if state.consumed > 0:
            if state.plan != self.fingerprint or state.consumed >= self.units:
                raise PlanError(
                    f"the checkpoint stopped inside epoch {state.epoch} ({state.consumed} units "
                    f"used) of another plan: {state.plan}, now {self.fingerprint}. Seed, view, "
                    "label set and plan settings must be as they were; resume from a checkpoint "
                    "at the end of an epoch, or start a new run"
                )
            if self.config.order == "bucketed" and state.global_batch != self.global_batch:
                raise PlanError(
                    f"order 'bucketed' cannot change the global batch inside an epoch: it was "
                    f"{state.global_batch}, now {self.global_batch}; set it back, or resume from "
                    "a checkpoint at the end of an epoch"
                )
        return replace(self.start(), epoch=state.epoch, consumed=state.consumed)

    def _check_fact(self, fact: np.ndarray | None) -> np.ndarray:
        order = self.config.order
        if order == "dialogues":
            if self.groups is None or len(self.groups) != self.units:
                raise PlanError("order 'dialogues' needs the rows of each dialogue")
            rows = np.concatenate(self.groups)
            if np.bincount(rows).max(initial=0) > 1:
                raise PlanError("a row stands in two dialogues; a plan must visit it once")
            return rows
        if order == "shuffle":
            return np.empty(0)
        name = {"windowed": "shard", "bucketed": "length", "balanced": "class"}[order]
        if fact is None or len(fact) != self.units:
            raise PlanError(f"order '{order}' needs the {name} of each of the {self.units} units")
        fact = np.asarray(fact)
        if not np.all(fact >= 0):  # NaN fails too
            at = int(np.flatnonzero(~(fact >= 0))[0])
            raise PlanError(f"order '{order}': unit {at} has {name} {fact[at]}, below 0")
        narrow = {"bucketed": np.float32, "balanced": np.int16}.get(order, np.int64)
        return fact.astype(narrow, copy=False)  # less memory to walk through


def evaluation_plan(units: int, batch: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """Every unit once, for evaluation: int64 [steps, batch], -1 filling up the last batch.

    In order of number or, with `lengths` [units], longest first: little padding, and a batch too
    big for memory fails at once. Sliced as training batches are, it gives every rank the same
    number of steps.
    """
    order = np.arange(units) if lengths is None else np.argsort(-lengths, kind="stable")
    return _in_batches(order.astype(np.int64), batch)


def check_slices(global_batch: int, world: int, accumulation: int = 1) -> int:
    """The micro-batch size of one rank.

    Raises:
        PlanError: `global_batch` is not divisible by `world * accumulation`.
    """
    parts = world * accumulation
    micro, rest = divmod(global_batch, parts)
    if rest:
        near = [str(n) for n in (micro * parts, (micro + 1) * parts) if n]
        raise PlanError(
            f"global_batch {global_batch} cannot be cut evenly over {world} processes x "
            f"{accumulation} accumulation steps = {parts}; the nearest that can: "
            f"{' or '.join(near)}"
        )
    return micro


def rank_slices(batches: np.ndarray, world: int, rank: int, accumulation: int = 1) -> np.ndarray:
    """One rank's share of global batches.

    Neighbours in a global batch go to different ranks, so that long units (in a bucketed order) and
    missing ones (at the end of an epoch) are spread over all of them.

    Args:
        batches: int64 [..., global_batch].

    Returns:
        int64 [..., accumulation, micro]: over all ranks a partition of the global batch.
    """
    assert 0 <= rank < world, f"rank {rank} of {world}"
    micro = check_slices(batches.shape[-1], world, accumulation)
    return batches.reshape(*batches.shape[:-1], accumulation, micro, world)[..., rank]


def micro_batches(
    step_units: np.ndarray, world: int, rank: int, accumulation: int = 1
) -> list[np.ndarray]:
    """One rank's micro-batches of one step: `accumulation` arrays int64 [micro], -1 = no unit."""
    return list(rank_slices(step_units, world, rank, accumulation))


def _in_batches(order: np.ndarray, batch: int) -> np.ndarray:
    missing = -len(order) % batch
    if missing:
        order = np.concatenate((order, np.full(missing, -1, np.int64)))
    return order.reshape(-1, batch)


def _hash_array(values: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).hexdigest()
