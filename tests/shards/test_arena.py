import importlib
import inspect
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shards.arena import Arena, Packed

SIZE = 4 * 1000 + 64


def make(arena: Arena, asked: tuple[int, int | None]) -> Packed:
    item, number = asked
    slot = arena.slot(number)
    values = slot.empty((10, 100), "f4")
    values[:] = item
    mask = slot.empty((7,), bool)  # no room is left for it
    mask[:] = item % 2
    return slot.pack({"values": values, "mask": mask, "item": np.array([item])})


class Made:
    """A dataset as a loader's workers have it."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    def __getitem__(self, asked: tuple[int, int | None]) -> Packed:
        return make(self.arena, asked)


def right(batch: dict[str, torch.Tensor], item: int) -> bool:
    return bool(
        (batch["values"] == item).all()
        and batch["values"].shape == (10, 100)
        and (batch["mask"] == bool(item % 2)).all()
        and batch["item"].item() == item
    )


def in_main_process(arena: Arena, items: int) -> list[dict[str, torch.Tensor]]:
    return [arena.unpack(make(arena, asked)) for asked in arena.lend(range(items))]


def test_held_batches_are_never_overwritten() -> None:
    arena = Arena(3, SIZE)
    batches = in_main_process(arena, 10)  # three in slots, seven by value
    assert arena.free == 0
    assert all(right(batch, item) for item, batch in enumerate(batches))


def test_a_slot_is_lent_again_when_the_last_view_of_it_is_gone() -> None:
    arena = Arena(1, SIZE)
    batch = in_main_process(arena, 1)[0]
    view = batch["values"][3:5].flatten()
    del batch
    assert arena.free == 0
    assert (view == 0).all()
    del view
    assert arena.free == 1


def test_batches_share_the_arenas_memory() -> None:
    arena = Arena(1, SIZE)
    batch = in_main_process(arena, 1)[0]
    before = batch["values"].data_ptr()
    del batch
    assert in_main_process(arena, 1)[0]["values"].data_ptr() == before


def test_parts_of_an_array_travel_by_value() -> None:
    arena = Arena(1, SIZE)
    slot = arena.slot(0)
    array = slot.empty((4, 5), "i4")
    array[:] = np.arange(20).reshape(4, 5)
    batch = arena.unpack(slot.pack({"part": array[:2], "other": array.view("u4")}))
    assert batch["part"].tolist() == array[:2].tolist()
    assert batch["other"].dtype == torch.uint32


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loader_workers_write_into_it(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers that are no forks of this process must be able to import what they run.
    head = "import numpy as np\nfrom shards.arena import Arena, Packed\n"
    code = head + inspect.getsource(make) + inspect.getsource(Made)
    (tmp_path / f"{method}_maker.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    arena = Arena(6, SIZE)
    items: Any = arena.lend(range(40))
    loader = DataLoader(
        importlib.import_module(f"{method}_maker").Made(arena),
        sampler=items,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    for _ in range(3):
        through = 0
        for item, packed in enumerate(loader):
            through += packed.number is not None
            assert right(arena.unpack(packed), item)
        assert item == 39
        assert through == 40
        assert arena.free == 6
