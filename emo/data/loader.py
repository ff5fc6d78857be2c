"""Steps read ahead by worker processes, handed over in shared memory that stays.

A `DataLoader` gives every tensor that leaves a worker new shared memory, and a descriptor of its
own to be sent through a socket: the kernel clears and maps hundreds of pages for each batch, which
takes longer than reading the samples. Here the memory is made once, a slot for each batch that can
be under way; the worker copies its batch in, the main process copies it out. The loader is never
handed to accelerate.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
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
_FIELDS = fields(Batch)


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
        pin: put batches into page-locked memory, from which they are copied to a GPU meanwhile.
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
                yield _pinned(self.steps[step]) if self.pin else self.steps[step]
            return
        # One more than are asked for: the next is, before the one at hand has been copied out.
        slots = Slots(self.workers * AHEAD + 1, _room(self.steps.largest_item()))
        loader = DataLoader(
            _Filled(self.steps, self.order, slots),
            batch_size=None,
            sampler=range(len(self.order)),
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            worker_init_fn=_start_worker,
            multiprocessing_context=self.context,
            # Or else each start draws from the generator that dropout uses: a resumed run would
            # differ.
            generator=torch.Generator(),
        )
        for number, batch in enumerate(loader):
            yield slots.take(number, batch, self.pin)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in a slot: the offset of its first byte, its shape and dtype."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Slots:
    """`count` pieces of `size` bytes of memory that this process and its workers share.

    Batch `n` has slot `n % count`: it must have been taken before batch `n + count` is put. The
    pages are the kernel's to give when they are first written, and no part of /dev/shm, which is
    small in containers.
    """

    def __init__(self, count: int, size: int) -> None:
        size = -(-size // ALIGN) * ALIGN
        handle = os.memfd_create("batches")
        os.ftruncate(handle, count * size)
        self._open(count, size, handle)

    def _open(self, count: int, size: int, handle: int) -> None:
        self.count, self.size, self.handle = count, size, handle
        memory = mmap.mmap(handle, count * size)
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8).view(count, size)

    def __getstate__(self) -> tuple[int, int, Any]:  # for workers that are no forks
        return self.count, self.size, DupFd(self.handle)

    def __setstate__(self, state: tuple[int, int, Any]) -> None:
        count, size, handle = state
        self._open(count, size, handle.detach())

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    def put(self, number: int, batch: Any) -> Any:
        """Copy the tensors of `batch` into the slot of batch `number`: a `Place` stands for each.

        A tensor for which there is no room stays as it is, and goes the way of other loaders.
        """
        slot, used = self._bytes[number % self.count], 0

        def copy(tensor: Tensor) -> Tensor | Place:
            nonlocal used
            if not 0 < tensor.nbytes <= self.size - used:
                return tensor
            place = Place(used, tuple(tensor.shape), tensor.dtype)
            _at(slot, place).copy_(tensor)
            used += -(-tensor.nbytes // ALIGN) * ALIGN
            return place

        return _each(copy, batch)

    def take(self, number: int, batch: Any, pin: bool) -> Any:
        """What `put` got, in memory of its own."""
        slot = self._bytes[number % self.count]

        def copy(tensor: Tensor | Place) -> Tensor:
            if isinstance(tensor, Place):
                found = _at(slot, tensor)
                return found.pin_memory() if pin else found.clone()
            return tensor.pin_memory() if pin else tensor

        return _each(copy, batch)


class _Filled(Dataset):
    """`steps` in `order`, by their place in it, with their tensors in `slots`."""

    def __init__(self, steps: Steps, order: range, slots: Slots) -> None:
        self.steps, self.order, self.slots = steps, order, slots

    def __getitem__(self, number: int) -> Any:
        return self.slots.put(number, self.steps[self.order[number]])


def _start_worker(_: int) -> None:
    keep_freed_memory()


def _at(slot: Tensor, place: Place) -> Tensor:
    stop = place.offset + math.prod(place.shape) * place.dtype.itemsize
    return slot[place.offset : stop].view(place.dtype).view(place.shape)


def _each(action: Any, batch: Any) -> Any:
    """`batch` with `action(tensor)` for each of its tensors."""
    if isinstance(batch, Batch):
        return replace(batch, **{f.name: _each(action, getattr(batch, f.name)) for f in _FIELDS})
    if isinstance(batch, dict):
        return {name: _each(action, value) for name, value in batch.items()}
    if isinstance(batch, list):
        return [_each(action, value) for value in batch]
    return None if batch is None else action(batch)


def _pinned(batch: Any) -> Any:
    return _each(Tensor.pin_memory, batch)


def _room(batch: Any) -> int:
    """Bytes that `batch` takes in a slot, and something for scalars beside it."""
    sizes: list[int] = []
    _each(lambda tensor: sizes.append(tensor.nbytes + ALIGN), batch)
    return sum(sizes) + 4096
