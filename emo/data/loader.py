"""Worker processes read steps ahead, and hand them over in shared memory that is allocated once.

A `DataLoader` allocates new shared memory for every tensor that leaves a worker, and sends its
descriptor through a socket. The kernel then clears and maps hundreds of pages for each batch, which
takes longer than reading the samples. Here the memory is allocated once, with a slot for each batch
that can be on its way. The worker copies its batch into a slot, the main process copies it out.

The loader is never passed to accelerate: steps are already divided among the ranks.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from multiprocessing.context import BaseContext
from multiprocessing.reduction import DupFd
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emo.data.source import Batch
from shards.atomic import short_temporary_folder
from shards.processes import keep_freed_memory

AHEAD = 4  # batches that each worker prepares in advance
ALIGN = 64  # bytes, a cache line: no tensor begins inside one that holds another's end
_FIELDS = tuple(field.name for field in fields(Batch))


class Steps(Protocol):
    """What a loader reads. An item is a tensor, a `Batch`, or a dict or list of items."""

    def __getitem__(self, step: int) -> Any: ...

    def largest_item(self) -> Any:
        """An item that takes as much memory as the largest one; it sizes the slots."""


class Loader:
    """Items of `steps` in the given order, read ahead by `workers` processes.

    With 0 workers, items are read in this process. Every iteration has its own workers and memory,
    so two may run at the same time. The caller may keep the items. An error in a worker is raised
    here.

    Args:
        pin: put items into page-locked memory, from which they can be copied to a GPU in the
            background.
        context: how workers are started; by default the platform's way.
    """

    def __init__(
        self,
        steps: Steps,
        order: range,
        *,
        workers: int,
        pin: bool = False,
        context: BaseContext | str | None = None,
    ) -> None:
        self.steps, self.order, self.workers = steps, order, workers
        self.pin, self.context = pin, context

    def __iter__(self) -> Iterator[Any]:
        keep_freed_memory()
        if not self.workers:
            for step in self.order:
                item = self.steps[step]
                yield _each(Tensor.pin_memory, item) if self.pin else item
            return
        # One slot more than the workers prepare batches. Before we have copied batch n out,
        # `DataLoader` has already asked for batch n + workers * AHEAD, which must not be written
        # into the slot of n.
        slots = Slots(self.workers * AHEAD + 1, _bytes_of(self.steps.largest_item()))
        short_temporary_folder()
        loader = DataLoader(
            _IntoSlots(self.steps, self.order, slots),
            batch_size=None,
            sampler=range(len(self.order)),
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            worker_init_fn=_start_worker,
            multiprocessing_context=self.context,
            # A generator of its own. Otherwise each start of workers would draw a seed from the
            # generator that dropout uses, and a resumed run would differ from an uninterrupted one.
            generator=torch.Generator(),
        )
        for number, item in enumerate(loader):
            yield slots.take(number, item, self.pin)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in a slot: the offset of its first byte, its shape and dtype."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Slots:
    """Memory shared by this process and its workers: `count` slots of `size` bytes.

    Item `n` uses slot `n % count`, so it must be taken before item `n + count` is put. Every slot
    begins with the number of the item in it, by which `take` notices if this rule was broken.
    """

    def __init__(self, count: int, size: int) -> None:
        size = ALIGN + -(-size // ALIGN) * ALIGN  # the number in front
        # An anonymous file. /dev/shm, where torch keeps shared tensors, has only 64 MB in a
        # container. This is ordinary memory, which vanishes with the last process that uses it; a
        # page takes memory only once it is written to.
        handle = os.memfd_create("batches")
        os.ftruncate(handle, count * size)
        self._open(count, size, handle)

    def _open(self, count: int, size: int, handle: int) -> None:
        self.count, self.size, self.handle = count, size, handle
        memory = mmap.mmap(handle, count * size)
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8).view(count, size)
        self._numbers = self._bytes[:, :8].view(torch.int64)  # [count, 1]

    def __getstate__(self) -> tuple[int, int, Any]:
        # Workers that are not forked get a duplicate of the descriptor, and map the same memory.
        return self.count, self.size, DupFd(self.handle)

    def __setstate__(self, state: tuple[int, int, Any]) -> None:
        count, size, handle = state
        self._open(count, size, handle.detach())

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    def put(self, number: int, item: Any) -> Any:
        """Copy the tensors of item `number` into its slot; returns the item with `Place`s for them.

        A tensor that does not fit stays in the item, and is sent in `DataLoader`'s own way.
        """
        slot, used = self._bytes[number % self.count], ALIGN
        # Written before the tensors. Should `take` still be copying the slot's last item, then it
        # finds another number when it looks, which it does after its copy.
        self._numbers[number % self.count] = number

        def copy(tensor: Tensor) -> Tensor | Place:
            nonlocal used
            if not 0 < tensor.nbytes <= self.size - used:
                return tensor
            place = Place(used, tuple(tensor.shape), tensor.dtype)
            _at(slot, place).copy_(tensor)
            used += -(-tensor.nbytes // ALIGN) * ALIGN
            return place

        return _each(copy, item)

    def take(self, number: int, item: Any, pin: bool) -> Any:
        """Item `number` as `put` was given it, in its own memory (with `pin`, page-locked).

        Raises:
            AssertionError: the slot was reused before this item was taken. Its tensors would have
                the right shapes and another item's values, and nothing else would show it.
        """
        slot = self._bytes[number % self.count]

        def copy(tensor: Tensor | Place) -> Tensor:
            if isinstance(tensor, Place):
                shared = _at(slot, tensor)
                # Both copy. A view would change when the slot is reused: under a caller who keeps
                # it, or under a transfer to the GPU that still runs in the background.
                return shared.pin_memory() if pin else shared.clone()
            return tensor.pin_memory() if pin else tensor

        taken = _each(copy, item)
        held = int(self._numbers[number % self.count])
        if held != number:  # not `assert`: it must hold under python -O as well
            raise AssertionError(
                f"slot {number % self.count} of {self.count} holds item {held} where item {number} "
                "was to be taken: it was used again too early"
            )
        return taken


class _IntoSlots(Dataset):
    """The dataset of the workers: `steps` in the given order, their tensors put into `slots`."""

    def __init__(self, steps: Steps, order: range, slots: Slots) -> None:
        self.steps, self.order, self.slots = steps, order, slots

    def __getitem__(self, number: int) -> Any:
        return self.slots.put(number, self.steps[self.order[number]])


def _start_worker(_: int) -> None:
    keep_freed_memory()


def _at(slot: Tensor, place: Place) -> Tensor:
    """The tensor at `place`: a view of the slot's bytes."""
    stop = place.offset + math.prod(place.shape) * place.dtype.itemsize
    return slot[place.offset : stop].view(place.dtype).view(place.shape)


def _each(action: Callable[[Any], Any], item: Any) -> Any:
    """`item` with `action(tensor)` for each of its tensors."""
    if isinstance(item, Batch):
        changed = {name: _each(action, getattr(item, name)) for name in _FIELDS}
        return replace(item, **changed)
    if isinstance(item, dict):
        return {name: _each(action, value) for name, value in item.items()}
    if isinstance(item, list):
        return [_each(action, value) for value in item]
    return None if item is None else action(item)  # None: a batch of evaluation has no `counts`


def _bytes_of(item: Any) -> int:
    """Bytes that `item` takes in a slot, with some room to spare."""
    sizes: list[int] = []
    _each(lambda tensor: sizes.append(tensor.nbytes + ALIGN), item)
    return sum(sizes) + 4096
