"""The plan: which unit is read at which step by which rank, as arithmetic on a few numbers.

A plan is a pure function of (seed, epoch, global batch, world, rank). It fixes the order of an
epoch and cuts it into *global* batches; rank, world size and accumulation only slice those. This
needs no communication and no bookkeeping. Every unit is visited exactly once an epoch on any number
of ranks, the global batches are the same at every world size, and resuming is slicing.

Units are numbered `0 .. units-1`: positions in the view's training rows, or dialogues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from emo.data import orders
from emo.data.config import OrderName, PlanConfig
from emo.data.corpora.mixture import Mixture
from shards.configfile import digest
from shards.errors import UserError


class PlanError(UserError):
    """A plan that cannot be made, sliced or resumed as asked."""


@dataclass(frozen=True, slots=True)
class DataState:
    """How far training is in its data; all that a checkpoint must hold about it.

    `consumed` counts the units of epoch `epoch` that finished steps have used, without those that
    workers have only read ahead. `plan` is `Plan.fingerprint`, which differs for another order,
    view or label set.
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataState:
        """The inverse of `dataclasses.asdict`: checkpoints hold it as JSON.

        Raises:
            PlanError: a key is missing, unknown, or holds a value of the wrong kind.
        """
        # Annotations are strings here (`from __future__ import annotations`). Types are compared
        # exactly, because `isinstance` would take True for an int.
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


@dataclass(frozen=True)
class UnitFacts:
    """What an order may need to know of every unit, [units] each; `ORDERS` says which needs what.

    `shards` int, `lengths` int or float, `labels` int (the class); none of them is below 0.
    `groups` holds the rows of each dialogue, int [turns]. With a `mixture`, an epoch does not use
    every unit once, but as often as that says.
    """

    shards: np.ndarray | None = None
    lengths: np.ndarray | None = None
    labels: np.ndarray | None = None
    groups: Sequence[np.ndarray] | None = None
    mixture: Mixture | None = None


@dataclass(frozen=True)
class _Order:
    """One way to order an epoch.

    `make` gives the permutation, from the facts of an epoch's units. `fact` is the field of
    `UnitFacts` that it reads, and `each` the word for one value of it in messages. `dtype` is the
    narrow type in which the values are kept, so that less memory has to be read. `by_batch`: the
    order depends on the global batch.
    """

    make: Callable[[Plan, np.ndarray, np.random.PCG64], np.ndarray]
    fact: Literal["shards", "lengths", "labels", "groups"] | None = None
    each: str = ""
    dtype: type[np.generic] = np.int64
    by_batch: bool = False


class Plan:
    """The training plan of one view.

    Args:
        units: number of units; every one is visited once an epoch, unless there is a mixture. An
            epoch has as many places in any case.
        global_batch: units a step, over all ranks and accumulation steps.
        facts: what the order needs to know of the units.

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
        facts: UnitFacts = UnitFacts(),
    ) -> None:
        if units < 1 or global_batch < 1:
            raise PlanError(
                f"a plan needs at least one unit and a global batch of at least one, not {units} "
                f"units and global_batch {global_batch}; check the view and the batch size"
            )
        self.config, self.units, self.global_batch = config, units, global_batch
        self.seed, self.dataset_hash = seed, dataset_hash
        self.steps_per_epoch = -(-units // global_batch)
        self.fact = self._check_fact(facts)
        # The facts are part of the fingerprint: a resumed epoch is the same sequence only if
        # lengths, shards, classes or dialogues are unchanged.
        recipe = [config.model_dump(mode="json"), units, seed, orders.hash_array(self.fact)]
        self.mixture = facts.mixture
        if self.mixture is not None:
            recipe.append(self.mixture.fingerprint)
        self.fingerprint = digest(recipe)[:16]

    def order(self, epoch: int) -> np.ndarray:
        """The units of epoch `epoch` in the order of their use, int64 [units]."""
        # Every rank computes this permutation from the seed and the epoch's number. It is neither
        # sent nor stored, and a resumed run computes the same one.
        bits, make = orders.bit_stream(self.seed, epoch), ORDERS[self.config.order].make
        if self.mixture is None:
            return make(self, self.fact, bits)
        chosen = np.repeat(np.arange(self.units), self.visits(epoch))  # ascending, some repeated
        fact = self.fact[chosen] if len(self.fact) else self.fact
        return chosen[make(self, fact, bits)]

    def visits(self, epoch: int) -> np.ndarray:
        """How often epoch `epoch` uses each unit, int64 [units]."""
        if self.mixture is None:
            return np.ones(self.units, np.int64)
        return self.mixture.visits(self.seed, epoch)

    def epoch(self, epoch: int, consumed: int = 0) -> np.ndarray:
        """The global batches of epoch `epoch` that remain after `consumed` units.

        Returns int64 [steps, global_batch]; -1 (no unit) only at the end of the last batch.
        Its cost does not depend on `consumed`.
        """
        return _in_batches(self.order(epoch)[consumed:], self.global_batch)

    def start(self) -> DataState:
        """The state before the first step."""
        return DataState(self.seed, 0, 0, self.global_batch, self.dataset_hash, self.fingerprint)

    def resume(self, state: DataState) -> DataState:
        """`state` as this plan continues it: `epoch(state.epoch, state.consumed)` remains.

        The world size may have changed. So may the global batch, if the order does not depend on
        it: the rest of the epoch is the same sequence, cut into other batches. `bucketed` does
        depend on it, and accepts another global batch only at the start of an epoch.

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
            by_batch = ORDERS[self.config.order].by_batch
            if by_batch and state.global_batch != self.global_batch:
                raise PlanError(
                    f"order '{self.config.order}' cannot change the global batch inside an epoch: "
                    f"it was {state.global_batch}, now {self.global_batch}; set it back, or resume "
                    "from a checkpoint at the end of an epoch"
                )
        return replace(self.start(), epoch=state.epoch, consumed=state.consumed)

    def _check_fact(self, facts: UnitFacts) -> np.ndarray:
        """The fact that the order reads, as an array; an empty one if it reads none."""
        order, name = ORDERS[self.config.order], self.config.order
        if order.fact is None:
            return np.empty(0)
        if order.fact == "groups":
            if facts.groups is None or len(facts.groups) != self.units:
                raise PlanError(
                    f"order '{name}' needs the rows of each dialogue, which only context models "
                    "have: choose another data.plan.order"
                )
            rows = np.concatenate(facts.groups)
            if np.bincount(rows).max(initial=0) > 1:
                raise PlanError(
                    f"row {int(np.bincount(rows).argmax())} is in two dialogues, but must be "
                    "visited once: rebuild the shards"
                )
            return rows
        given = getattr(facts, order.fact)
        if given is None or len(given) != self.units:
            raise PlanError(
                f"order '{name}' needs the {order.each} of each of the {self.units} units"
            )
        fact = np.asarray(given)
        if not np.all(fact >= 0):  # NaN fails too
            at = int(np.flatnonzero(~(fact >= 0))[0])
            raise PlanError(f"order '{name}': unit {at} has {order.each} {fact[at]}, below 0")
        return fact.astype(order.dtype, copy=False)


ORDERS: dict[OrderName, _Order] = {
    "shuffle": _Order(lambda plan, fact, bits: orders.shuffled(bits, plan.units)),
    "windowed": _Order(
        lambda plan, fact, bits: orders.windowed(
            bits, fact, plan.config.shards_open, plan.config.block, plan.config.window
        ),
        fact="shards",
        each="shard",
    ),
    "bucketed": _Order(
        lambda plan, fact, bits: orders.bucketed(bits, fact, plan.global_batch, plan.config.pool),
        fact="lengths",
        each="length",
        dtype=np.float32,
        by_batch=True,
    ),
    "balanced": _Order(
        lambda plan, fact, bits: orders.balanced(bits, fact),
        fact="labels",
        each="class",
        dtype=np.int16,
    ),
    "dialogues": _Order(lambda plan, fact, bits: orders.shuffled(bits, plan.units), fact="groups"),
}
assert tuple(ORDERS) == get_args(OrderName)


@dataclass(frozen=True)
class Share:
    """Which part of every global batch one rank reads, in `accumulation` micro-batches."""

    world: int = 1
    rank: int = 0
    accumulation: int = 1


def evaluation_plan(units: int, batch: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """Every unit once, for evaluation: int64 [steps, batch], -1 filling up the last batch.

    In the order of their numbers or, with `lengths` [units], longest first: that needs little
    padding, and a batch that does not fit into memory fails at the start. It is sliced as training
    batches are, so every rank has the same number of steps.
    """
    # Stable: units of one length stay in order, and a repeated evaluation has the same batches.
    order = np.arange(units) if lengths is None else np.argsort(-lengths, kind="stable")
    return _in_batches(order.astype(np.int64), batch)


def check_slices(global_batch: int, world: int, accumulation: int = 1, together: int = 1) -> int:
    """The micro-batch size of one rank.

    Raises:
        PlanError: `global_batch` is not divisible by `world * accumulation * together`.
    """
    parts = world * accumulation * together
    micro, rest = divmod(global_batch, parts)
    if rest:
        near = [str(n) for n in (micro * parts, (micro + 1) * parts) if n]
        raise PlanError(
            f"global_batch {global_batch} cannot be cut evenly over {world} processes x "
            f"{accumulation} accumulation steps{' x the 2 partners of mixup' * (together > 1)} = "
            f"{parts}; the nearest that can: "
            f"{' or '.join(near)}"
        )
    return micro * together


def rank_slices(
    batches: np.ndarray, world: int, rank: int, accumulation: int = 1, together: int = 1
) -> np.ndarray:
    """One rank's share of global batches.

    Neighbours in a global batch go to different ranks. Long units (in a bucketed order) and missing
    ones (at the end of an epoch) are thereby spread over all of them.

    Args:
        batches: int64 [..., global_batch].
        together: neighbours that one micro-batch must hold: the 2 partners of mixup.

    Returns:
        int64 [..., accumulation, micro]: over all ranks a partition of the global batch.
    """
    assert 0 <= rank < world, f"rank {rank} of {world}"
    micro = check_slices(batches.shape[-1], world, accumulation, together)
    # `world` stands last but for what stays together: unit i goes to rank i // together % world.
    cut = batches.reshape(*batches.shape[:-1], accumulation, micro // together, world, together)
    return cut[..., rank, :].reshape(*batches.shape[:-1], accumulation, micro)


def _in_batches(order: np.ndarray, batch: int) -> np.ndarray:
    missing = -len(order) % batch  # up to the next multiple of `batch`
    if missing:
        order = np.concatenate((order, np.full(missing, -1, np.int64)))
    return order.reshape(-1, batch)
