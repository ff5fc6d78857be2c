"""What one rank reads at each step: slices of the plan, made into batches.

An item of `TrainingSteps` or `EvaluationSteps` is everything that one rank needs for one step. So a
loader (`emo.data.loader`) only distributes steps over workers; it neither batches nor samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from emo.data.augment.draws import Draws
from emo.data.augment.mixup import mixed
from emo.data.plan import DataState, Plan, Share, check_slices, evaluation_plan, rank_slices
from emo.data.source import Batch, SampleSource


class TrainingSteps(Dataset):
    """Item `n`: this rank's micro-batches of the n-th optimizer step after `start`.

    Args:
        units: int64 [plan.units], the unit of `source` behind each number in the plan.
        epochs: number of epochs at which training ends, including those before `start`.
    """

    def __init__(
        self,
        source: SampleSource,
        units: np.ndarray,
        plan: Plan,
        start: DataState,
        *,
        epochs: int,
        share: Share,
    ) -> None:
        self.source, self.units, self.plan = source, units, plan
        self.start, self.share = start, share
        self.augment = source.config.augment
        # Steps that remain of the epoch in which training starts.
        self._begun = -(-(plan.units - start.consumed) // plan.global_batch)
        whole = epochs - start.epoch - 1
        self._length = self._begun + whole * plan.steps_per_epoch if whole >= 0 else 0
        self._epochs: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict:
        # Each worker computes an epoch's order itself. That is faster than sending it, and gives
        # the same order, which is a function of the seed and the epoch.
        return self.__dict__ | {"_epochs": {}}

    def global_units(self, step: int) -> np.ndarray:
        """Units of the whole global batch of step `step`, int64 [G], -1 = none."""
        epoch, consumed, inside = self._place(step)
        if epoch not in self._epochs:
            self._epochs = {epoch: self.plan.epoch(epoch, consumed)}  # replaces the epoch before
        numbers = self._epochs[epoch][inside]
        return np.where(numbers >= 0, self.units[numbers], -1)

    def _place(self, step: int) -> tuple[int, int, int]:
        """The epoch of a step, how many units it had used at the start, and the step inside it."""
        if step < self._begun:
            return self.start.epoch, self.start.consumed, step
        further, inside = divmod(step - self._begun, self.plan.steps_per_epoch)
        return self.start.epoch + 1 + further, 0, inside

    def largest_item(self) -> list[Batch]:
        """An empty item, padded to the longest unit of all: no item takes more memory."""
        together = self.augment.together
        world, accumulation = self.share.world, self.share.accumulation
        places = check_slices(self.plan.global_batch, world, accumulation, together)
        empty = np.full(places, -1)
        batch = self.source.batch(empty, self.source.lengths(self.units))
        return [_counted(self._in_epoch(batch, epoch=0), empty)] * accumulation

    def __getitem__(self, step: int) -> list[Batch]:
        units, share = self.global_units(step), self.share
        # Padded to the longest unit of the *global* batch. So what the model computes for a row
        # does not depend, to the last bit, on the number of ranks and micro-batches.
        lengths = self.source.lengths(units)
        epoch, _, _ = self._place(step)
        cut = (share.world, share.rank, share.accumulation)
        micros = rank_slices(units, *cut, *([2] if self.augment.together == 2 else []))
        return [
            _counted(self._in_epoch(self.source.batch(micro, lengths), epoch), micro)
            for micro in micros
        ]

    def _in_epoch(self, batch: Batch, epoch: int) -> Batch:
        """`batch` with this epoch's targets and random numbers of augmentation.

        Both depend on seed, epoch and row alone. Targets are mixed here, in the worker: the loss'
        weights are summed up before the device sees the batch.
        """
        if self.source.votes is not None:
            targets = self.source.votes.targets(batch.row.numpy(), epoch, batch.target.numpy())
            batch = replace(batch, target=torch.from_numpy(targets))
        if not self.augment.any:
            return batch
        draws = Draws(self.plan.seed, epoch)
        if self.augment.mixup is not None:
            batch = mixed(batch, self.augment.mixup, draws)
        return replace(batch, draws=draws)


class EvaluationSteps(Dataset):
    """Item `step`: this rank's batch; every unit once over all ranks, the same number of steps.

    Args:
        batch: units of a step over all ranks, rounded up to a multiple of their number.
    """

    def __init__(
        self, source: SampleSource, units: np.ndarray, *, batch: int, share: Share
    ) -> None:
        assert share.accumulation == 1, "evaluation has no micro-batches"
        batch = -(-batch // share.world) * share.world
        order = evaluation_plan(len(units), batch, source.sizes[units])
        self.source, self.share = source, share
        self.batches = np.where(order >= 0, units[order], -1)

    def __len__(self) -> int:
        return len(self.batches)

    def largest_item(self) -> Batch:
        """As in `TrainingSteps`."""
        empty = np.full(self.batches.shape[1] // self.share.world, -1)
        return self.source.batch(empty, self.source.lengths(self.batches))

    def __getitem__(self, step: int) -> Batch:
        units = self.batches[step]
        [mine] = rank_slices(units, self.share.world, self.share.rank)
        return self.source.batch(mine, self.source.lengths(units))


def trace_of(units: np.ndarray) -> int:
    """A checksum of `units` (int64, -1: none) that does not depend on their order.

    If the traces of all steps of an epoch add up to the trace of all units, each unit was used
    exactly once. Every unit adds a 32-bit hash of its number (the finalizer of SplitMix64, Steele
    et al. 2014).
    """
    # A hash, because in a sum of plain numbers one unit too many and one too few can cancel out
    # (3 + 3 for 2 + 4). A sum, because ranks and steps can then be added in any order. 32 bits,
    # because ranks add their traces as float64, which is exact up to two million units at a time.
    # A checkpoint inside an epoch holds the sum so far: another hash could not go on from it.
    x = units[units >= 0].astype(np.uint64)
    x += np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return int((x >> np.uint64(32)).sum())


def _counted(batch: Batch, units: np.ndarray) -> Batch:
    """`batch` with its `counts`, computed in the worker, so that the loop only adds numbers."""
    valid, skipped = int(batch.valid.count_nonzero()), int(batch.skipped.count_nonzero())
    return replace(batch, counts=torch.tensor([valid, skipped, trace_of(units)]))
