"""Steps read ahead by worker processes, handed over in shared memory that is made once.

A `DataLoader` gives every tensor that leaves a worker new shared memory, and sends a descriptor of
it through a socket. The kernel clears and maps hundreds of pages for each batch, which takes longer
than reading the samples. Here the memory is made once: a slot for each batch that can be under way.
The worker copies its batch into the slot, the main process copies it out.

The loader is never handed to accelerate: the steps are cut by rank already.
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
from shards.allocator import keep_freed_memory

AHEAD = 4  # batches that each worker prepares before they are asked for
ALIGN = 64  # bytes: no tensor begins inside another's cache line
_FIELDS = tuple(field.name for field in fields(Batch))


class Steps(Protocol):
    """What is loaded. An item is a tensor, a `Batch`, or a dict or list of items."""

    def __getitem__(self, step: int) -> Any: ...

    def largest_item(self) -> Any:
        """No item takes more memory than this one."""


class Loader:
    """Items of `steps` in the given order, read ahead by `workers` processes; 0 reads them here.

    Every iteration has workers and memory of its own, so that two may go on at once. What it
    yields is the caller's to keep. A worker's error is raised here.

    Args:
        pin: put items into page-locked memory, from which they can be copied to a GPU in the
            background.
        context: how workers are started; by default as the platform does.
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
        # One slot more than batches that the workers prepare. `DataLoader` hands out batch n and
        # asks for batch n + workers * AHEAD before we have copied n out: that one must not have
        # the slot of n.
        slots = Slots(self.workers * AHEAD + 1, _bytes_of(self.steps.largest_item()))
        loader = DataLoader(
            _IntoSlots(self.steps, self.order, slots),
            batch_size=None,
            sampler=range(len(self.order)),
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            worker_init_fn=_start_worker,
            multiprocessing_context=self.context,
            # A generator of its own. Without it, each start of workers would draw a seed from the
            # generator that dropout uses, and a resumed run would not be the run that never
            # stopped.
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
    """`count` pieces of `size` bytes of memory that this process and its workers share.

    Item `n` has slot `n % count`: it must have been taken before item `n + count` is put. Every
    slot begins with the number of the item in it, so that `take` can tell if this was broken.
    """

    def __init__(self, count: int, size: int) -> None:
        size = ALIGN + -(-size // ALIGN) * ALIGN  # the number in front
        # An anonymous file. /dev/shm, where torch keeps shared tensors, is 64 MB in a container;
        # this is ordinary memory, and a killed run leaves no file behind. Its pages cost nothing
        # until they are first written.
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
        """Copy the tensors of item `number` into its slot: a `Place` stands for each.

        A tensor for which there is no room stays as it is, and goes the way of other loaders.
        """
        slot, used = self._bytes[number % self.count], ALIGN
        # Before the tensors: whoever is still copying the last item out of here then finds a
        # number that is not its own, whenever it looks after its copy.
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
        """What `put` was given as item `number`, in memory of its own (`pin`: page-locked).

        Raises:
            AssertionError: the slot was used again before this item was taken. Its tensors would be
                another item's, of the right shapes, and nobody would notice.
        """
        slot = self._bytes[number % self.count]

        def copy(tensor: Tensor | Place) -> Tensor:
            if isinstance(tensor, Place):
                shared = _at(slot, tensor)
                # Both copy. A view would change under the caller when the slot is used again, and
                # a copy to the GPU goes on in the background after the caller has let go of it.
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
    """What a worker reads: `steps` by their place in `order`, their tensors put into `slots`."""

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
    return None if item is None else action(item)  # a batch of evaluation has no counts


def _bytes_of(item: Any) -> int:
    """Bytes that `item` takes in a slot, and something for scalars beside it."""
    sizes: list[int] = []
    _each(lambda tensor: sizes.append(tensor.nbytes + ALIGN), item)
    return sum(sizes) + 4096
