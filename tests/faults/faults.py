"""Faults inside real training processes, and a record of the rows that every step used.

A fault is "rank:step:kind": that rank suffers it at its `step`-th optimizer step since it started.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def raises(model: Any, micro: list[Any]) -> None:
    raise RuntimeError("a bug on one rank")


def hangs(model: Any, micro: list[Any]) -> None:
    print("this rank hangs", flush=True)
    time.sleep(3600)


def gpu_memory(model: Any, micro: list[Any]) -> None:
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def nan(model: Any, micro: list[Any]) -> None:
    micro[-1].inputs["audio"].fill_(float("nan"))


def gradient(model: Any, micro: list[Any]) -> None:
    """The loss stays finite, its gradient does not."""
    first = next(p for p in model.parameters() if p.requires_grad)
    handle = first.register_hook(lambda gradient: handle.remove() or gradient * float("inf"))


def no_room(model: Any, micro: list[Any]) -> None:
    """From now on no file of this process grows beyond 10 kB: the kernel's EFBIG."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))


KINDS: dict[str, Callable[[Any, list[Any]], None]] = {
    kind.__name__: kind for kind in (raises, hangs, gpu_memory, nan, gradient, no_room)
}


@contextmanager
def armed(fault: str | None, record: str | None) -> Iterator[None]:
    """Faults and record for the runs of this process inside the `with`."""
    undo, limits = arm(fault, record), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        undo()
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def arm(fault: str | None, record: str | None) -> Callable[[], None]:
    """Wrap what `emo.training.train` calls at every step; returns what takes it off again."""
    from emo.training import train

    step, count = train.train_step, train.count_step
    rank, at, kind = fault.split(":") if fault else ("-1", "0", "")
    here = int(os.environ.get("RANK", "0"))
    calls, used = 0, []

    def train_step(*arguments: Any) -> Any:
        nonlocal calls, used
        calls += 1
        named = inspect.signature(step).bind(*arguments).arguments
        micro = named["micro"]
        used = [int(row) for b in micro for row in b.row[b.valid]]
        if (named["run"].runtime.rank, calls) == (int(rank), int(at)):
            KINDS[kind](named["run"].model, micro)
        return step(*arguments)

    def count_step(progress: Any, *rest: Any) -> Any:
        if record:
            path = Path(record) / f"rows-{here}.jsonl"
            line = {"rank": here, "epoch": progress.data.epoch, "step": progress.step + 1}
            text = json.dumps(line | {"rows": used}) + "\n"
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, text.encode())  # in one call: whole, or not at all
            os.close(handle)
        return count(progress, *rest)

    train.train_step, train.count_step = train_step, count_step

    def undo() -> None:
        train.train_step, train.count_step = step, count

    return undo


def recorded(folder: Path) -> list[dict[str, Any]]:
    """All lines of all ranks, each rank's in the order in which they were written."""
    paths = sorted(Path(folder).glob("rows-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
