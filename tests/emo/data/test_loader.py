"""Batches come whole from any number of workers, started in any way, and stay the caller's."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from emo.data.loader import AHEAD, Loader, Slots
from emo.data.source import Batch


class Made:
    """Steps of known content: two micro-batches each, of varied length."""

    def __init__(self, longest: int = 900, wrong: int = -1) -> None:
        self.longest, self.wrong = longest, wrong

    def largest_item(self) -> list[dict[str, torch.Tensor]]:
        return self._made(0, self.longest)

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        if step == self.wrong:
            raise ValueError(f"step {step} is wrong")
        return self._made(step, 1 + step * 7919 % 900)

    @staticmethod
    def _made(step: int, length: int) -> list[dict[str, torch.Tensor]]:
        return [
            {
                "x": torch.full((3, length, 4), float(step), dtype=torch.float16),
                "mask": torch.arange(length) % (step + 2) == micro,
                "empty": torch.empty(0, 3),
                "step": torch.tensor(10 * step + micro),
            }
            for micro in range(2)
        ]


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys()
        and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_batches_are_right_and_stay_so_however_workers_start(method: str) -> None:
    steps, order = Made(), range(5, 45, 2)
    items = list(Loader(steps, order, workers=2, context=method))  # all are held to the end
    assert len(items) == len(order)
    assert all(same(item, steps[step]) for item, step in zip(items, order, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_two_iterations_at_once_do_not_meet(workers: int) -> None:
    steps = Made()
    loader = Loader(steps, range(12), workers=workers)
    for step, (one, other) in enumerate(zip(loader, loader, strict=True)):
        assert same(one, steps[step])
        assert same(other, steps[step])


def test_what_has_no_room_takes_the_usual_way() -> None:
    steps = Made(longest=3)
    items = list(Loader(steps, range(9), workers=1))
    assert all(same(item, steps[step]) for step, item in enumerate(items))


def test_slots_are_used_again_without_new_memory() -> None:
    slots = Slots(3, 4096)
    addresses = set()
    for number in range(9):
        packed = slots.put(number, torch.full((100,), number))
        addresses.add((number % 3, packed.offset))
        assert slots.take(number, packed, pin=False).tolist() == [number] * 100
    assert len(addresses) == 3


def test_a_slot_that_was_used_again_too_early_is_noticed() -> None:
    slots = Slots(3, 4096)
    packed = [slots.put(number, torch.full((100,), number)) for number in range(3)]
    assert [int(slots.take(n, packed[n], pin=False)[0]) for n in range(3)] == [0, 1, 2]
    slots.put(4, torch.full((100,), 4))  # the slot of item 1
    assert int(slots.take(2, packed[2], pin=False)[0]) == 2
    with pytest.raises(AssertionError, match="slot 1 of 3 holds item 4 where item 1 was to be"):
        slots.take(1, packed[1], pin=False)


def test_a_loader_with_too_few_slots_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one slot alone, the worker overwrites what is still to be taken."""
    enough = Slots.__init__
    monkeypatch.setattr(Slots, "__init__", lambda self, count, size: enough(self, 1, size))

    def slowly() -> None:
        for _ in Loader(Made(), range(20), workers=1):
            time.sleep(0.2)  # the worker goes on meanwhile

    with pytest.raises(AssertionError, match=r"slot 0 of 1 holds item \d+ where item \d+ was"):
        slowly()


def test_a_batch_keeps_its_kind_and_what_it_lacks() -> None:
    slots = Slots(1, 4096)
    one = Batch(*(torch.arange(4) + n for n in range(4)), inputs={"audio": torch.ones(4, 3)})
    taken = slots.take(0, slots.put(0, one), pin=False)
    assert isinstance(taken, Batch)
    assert taken.counts is None
    assert torch.equal(taken.target, one.target)
    assert torch.equal(taken.inputs["audio"], one.inputs["audio"])


def test_a_workers_error_comes_here() -> None:
    source = iter(Loader(Made(wrong=7), range(20), workers=2))
    for _ in range(7):
        next(source)
    with pytest.raises(ValueError, match="step 7 is wrong"):
        next(source)


def test_a_killed_worker_is_an_error_and_no_hang() -> None:
    source = iter(Loader(Made(), range(1000), workers=2))
    next(source)
    os.kill(max(child.pid for child in active_children() if child.pid), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker"):
        for _ in source:
            pass


def test_workers_end_with_the_iteration() -> None:
    before = set(active_children())
    source = iter(Loader(Made(), range(1000), workers=2))
    next(source)
    assert len(set(active_children()) - before) == 2
    del source
    assert set(active_children()) <= before


def memory(pid: int) -> int:
    """Bytes of ordinary memory that process `pid` has, without the slots."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["RssAnon"].split()[0]) * 1024


def test_a_loader_takes_no_more_memory_the_longer_it_runs() -> None:
    before = set(active_children())
    size, held = 400, []
    for number, _ in enumerate(Loader(Made(), range(20 * size), workers=2)):
        if number % size == size - AHEAD * 2 - 1:  # towards the end of each of 20 epochs
            pids = [child.pid for child in set(active_children()) - before]
            held.append([memory(pid) for pid in (os.getpid(), *sorted(pids)) if pid])
    growth = [last - early for last, early in zip(held[-1], held[4], strict=True)]
    assert max(growth) < 1 << 20, growth
