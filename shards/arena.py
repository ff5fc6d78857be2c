"""Shared memory in which a loader's workers hand batches over, used again and again.

A `DataLoader` gives every tensor that leaves a worker new shared memory. A batch of speech features
is some megabytes: the kernel clears and maps hundreds of pages for each, which can cost more than
reading the samples does. Here the pages stay. The main process lends a slot to each batch that it
asks for, the worker writes the batch there, and the slot is free again when the last tensor on it
is gone: what somebody still holds is never overwritten. Where no slot is free or large enough, a
batch takes the usual way.

    arena = Arena(slots, size)                       # part of the dataset
    loader = DataLoader(dataset, sampler=arena.lend(order), batch_size=None, num_workers=2)
    for packed in loader:
        batch = arena.unpack(packed)                 # name -> tensor

and in the dataset, `__getitem__((item, number))`:

    slot = arena.slot(number)
    audio = slot.empty((rows, frames, bins), "f2")   # to be filled
    return slot.pack({"audio": audio})
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

ALIGN = 64  # bytes: no array begins inside another's cache line


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies in a slot."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch on its way: what lies in slot `number` is only described, the rest is here."""

    number: int | None
    arrays: dict[str, Place | torch.Tensor]


class Slot:
    """Memory for one batch, in the worker that makes it."""

    def __init__(self, number: int | None, memory: np.ndarray) -> None:
        self._number, self._memory = number, memory
        self._used = 0
        self._places: dict[int, Place] = {}  # by the array's address

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """An array of any content, like `numpy.empty`; ordinary memory when the slot is full."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if not size or self._used + size > len(self._memory):
            return np.empty(shape, kind)
        array = self._memory[self._used : self._used + size].view(kind).reshape(shape)
        self._places[array.ctypes.data] = Place(self._used, tuple(shape), kind.str)
        self._used += -(-size // ALIGN) * ALIGN
        return array

    def pack(self, arrays: Mapping[str, np.ndarray]) -> Packed:
        """The batch `arrays`: whole arrays of `empty`, or any others, which travel by value."""
        packed: dict[str, Place | torch.Tensor] = {}
        for name, array in arrays.items():
            place = self._places.get(array.ctypes.data)
            whole = place is not None and (place.shape, place.dtype) == (
                array.shape,
                array.dtype.str,
            )
            packed[name] = place if place is not None and whole else torch.from_numpy(array)
        return Packed(self._number, packed)


class Arena:
    """`slots` pieces of shared memory of `size` bytes each.

    It goes to the workers with the dataset (fork, spawn or forkserver); lending and taking back are
    the main process' business. Useful are as many slots as batches live at once: workers times
    prefetch factor, and those that the consumer holds.
    """

    def __init__(self, slots: int, size: int) -> None:
        self._memory = torch.empty((slots, size), dtype=torch.uint8).share_memory_()
        self._free = deque(range(slots))

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory, "_free": deque()}  # a copy has nothing to lend

    @property
    def free(self) -> int:
        """How many slots nobody uses."""
        return len(self._free)

    def lend(self, items: Iterable[Any]) -> Iterable[tuple[Any, int | None]]:
        """`items`, each with the number of the slot for its batch: the loader's `sampler`."""
        return _Lending(self._free, items)

    def slot(self, number: int | None) -> Slot:
        """The slot to write a batch into; None is one without room."""
        memory = np.empty(0, np.uint8) if number is None else self._memory[number].numpy()
        return Slot(number, memory)

    def unpack(self, packed: Packed) -> dict[str, torch.Tensor]:
        """The batch; to be called once for each, in the main process.

        Do not pin these tensors' memory in place and copy it asynchronously: the slot is lent again
        when Python has let go of them, whatever a device still reads.
        """
        if packed.number is None:
            root = np.empty(0, np.uint8)
        else:
            root = self._memory[packed.number].numpy()
            # A tensor made from an array keeps it alive, and so does every view of the tensor.
            weakref.finalize(root, self._free.append, packed.number).atexit = False
        return {
            name: _tensor(root, place) if isinstance(place, Place) else place
            for name, place in packed.arrays.items()
        }


def _tensor(root: np.ndarray, place: Place) -> torch.Tensor:
    kind = np.dtype(place.dtype)
    part = root[place.offset : place.offset + math.prod(place.shape) * kind.itemsize]
    return torch.from_numpy(part.view(kind).reshape(place.shape))


class _Lending:
    """Iterable again and again, as a sampler is; a slot is taken when its item is asked for."""

    def __init__(self, free: deque[int], items: Iterable[Any]) -> None:
        self._free, self._items = free, items

    def __iter__(self) -> Iterator[tuple[Any, int | None]]:
        for item in self._items:
            try:
                number = self._free.popleft()
            except IndexError:
                number = None
            yield item, number

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]
