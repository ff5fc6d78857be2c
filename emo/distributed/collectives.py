"""Messages between ranks, and the errors for ranks that are late or gone.

They go over gloo, on the CPU, so that deciding what to do next needs no synchronisation with a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from shards.errors import UserError

T = TypeVar("T")

# How gloo, NCCL and torch's key-value store say that a rank is late, and that one is gone.
_LATE = ("imed out", "timeout")
_LOST = ("Connection closed by peer", "Connection reset", "Broken pipe", "remote process exited")


class OtherRankFailed(UserError):
    """Another rank prints the error; this one only ends."""


class RankError(RuntimeError):
    """Another rank cannot be reached; nothing is wrong in this one."""


class RankLate(RankError):
    """Another rank did not come to a collective in time."""


class RankLost(RankError):
    """Another rank ended without saying why."""


@contextmanager
def lost_ranks_named() -> Iterator[None]:
    """Use around collectives, also torch's and DeepSpeed's: turns their errors into typed ones.

    Raises:
        RankLate, RankLost: with the remedy, from the backend's own error.
    """
    try:
        yield
    except RankError:
        raise
    except RuntimeError as error:
        text = str(error)
        # NCCL and the store have error classes of their own. gloo raises a plain RuntimeError, in
        # which only the text (the file that it comes from) tells it from a bug of ours.
        if not isinstance(error, dist.DistError) and "gloo" not in text.lower():
            raise
        said = f"{type(error).__name__}: {text}".splitlines()[0]
        if any(sign in text for sign in _LATE):
            raise RankLate(
                "another process did not arrive within runtime.timeout_seconds (before the first "
                "step start_timeout_seconds, in a save save_timeout_seconds): it hangs, or reads "
                f"its data more slowly than that. The last checkpoint is whole: resume=auto. "
                f"({said})"
            ) from error
        if any(sign in text for sign in _LOST):
            raise RankLost(
                "another process ended without a word (killed, most often for want of memory). The "
                f"last checkpoint is whole: resume=auto. ({said})"
            ) from error
        raise


@dataclass(frozen=True)
class Votes:
    """One rank's votes before a step of training or evaluation, or the sum over all ranks.

    Attributes:
        valid: rows of the step that count.
        mass: their weights in the loss, in units of `emo.models.losses.objective.MASS_UNIT`.
        skipped: rows left out as damaged.
        trace: `emo.data.steps.trace_of` the step's units.
        failed: ranks that could not read their batch.
        stop: ranks that were asked to save and end.
        out_of_time: ranks whose `train.max_minutes` are over.
    """

    valid: int = 0
    mass: int = 0
    skipped: int = 0
    trace: int = 0
    failed: int = 0
    stop: int = 0
    out_of_time: int = 0


class Collectives:
    """The collectives of one rank; all ranks must call them in the same order.

    All raise RankLate or RankLost if another rank does not answer.
    """

    def __init__(self, rank: int, world: int, timeout_seconds: float) -> None:
        self.rank, self.world = rank, world
        self._timeout = timeout_seconds
        self._group = (
            dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
            if world > 1
            else None
        )

    def wait_at_most(self, seconds: float) -> None:
        """How long a collective of this rank may take from now on, also those of the libraries."""
        self._timeout = seconds
        if self._group is not None:
            for group in (self._group, dist.group.WORLD):
                # Private, as of torch 2.11; torchtitan shortens its timeouts in the same way.
                dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)

    @contextmanager
    def waiting_at_most(self, seconds: float) -> Iterator[None]:
        """The same inside the `with`, if it is longer than what holds outside."""
        outside = self._timeout
        self.wait_at_most(max(outside, seconds))
        try:
            yield
        finally:
            self.wait_at_most(outside)

    @property
    def main(self) -> bool:
        """Whether this is rank 0, the one that prints and writes."""
        return self.rank == 0

    def vote(self, mine: Votes) -> Votes:
        """The sum of each field over all ranks, on every rank; int64, so traces add up exactly."""
        names = [field.name for field in fields(Votes)]
        sums = torch.tensor([int(getattr(mine, name)) for name in names])
        self._sum(sums)
        return Votes(**dict(zip(names, sums.tolist(), strict=True)))

    def total(self, value: float) -> float:
        """The sum of `value` over all ranks, on every rank, in float64."""
        summed = torch.tensor(value, dtype=torch.float64)
        self._sum(summed)
        return float(summed)

    def any(self, value: bool) -> bool:
        """Whether `value` is true on at least one rank."""
        return self.total(value) > 0

    @lost_ranks_named()
    def gather(self, array: np.ndarray) -> np.ndarray:
        """All ranks' arrays of one shape [n, ...], stacked to [world, n, ...], on every rank."""
        if self._group is None:
            return array[None]
        mine = torch.from_numpy(np.ascontiguousarray(array))
        every = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(every, mine, group=self._group)
        return torch.stack(every).numpy()

    @lost_ranks_named()
    def from_main(self, value: Any) -> Any:
        """Rank 0's `value` (anything JSON can hold) on every rank."""
        if self._group is None:
            return value
        text = json.dumps(value) if self.main else ""
        size = torch.tensor([len(text.encode())])
        dist.broadcast(size, 0, group=self._group)
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.main:
            data.copy_(torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8))
        dist.broadcast(data, 0, group=self._group)
        return json.loads(bytes(data.tolist()))

    @lost_ranks_named()
    def barrier(self) -> None:
        if self._group is not None:
            dist.barrier(group=self._group)

    def fail_together(self, error: Exception | None) -> None:
        """Raise on every rank if any rank has an `error`: the lowest such rank raises its own.

        Raises:
            OtherRankFailed: on all other ranks, which print nothing.
        """
        failed = self.gather(np.array([error is not None]))[:, 0]
        if not failed.any():
            return
        if error is not None and int(failed.argmax()) == self.rank:
            raise error
        raise OtherRankFailed(f"rank {int(failed.argmax())} failed")

    def together(self, action: Callable[[], T]) -> T:
        """The result of `action()`, called on every rank; an error on one is raised on all."""
        error: Exception | None = None
        try:
            result = action()
        except Exception as caught:
            error = caught
        self.fail_together(error)
        return result

    def main_decides(self, action: Callable[[], Any]) -> Any:
        """The result of `action()`, called on rank 0 only, on every rank; likewise its error.

        The result must be something that JSON can hold.
        """
        return self.from_main(self.together(lambda: action() if self.main else None))

    @lost_ranks_named()
    def _sum(self, tensor: torch.Tensor) -> None:
        """Sum `tensor` over all ranks, in place."""
        if self._group is not None:
            dist.all_reduce(tensor, group=self._group)
