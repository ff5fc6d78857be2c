"""Items through a model in batches: threads read ahead, results keep the items' order."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emo.serving.items import Item, Prediction, Refusal, Result
from emo.serving.scores import Numbers

if TYPE_CHECKING:
    from emo.serving.predict import Predictor

AHEAD = 8  # batches that are prepared before the first of them is predicted
PLACES = 2**16  # frames or tokens of a batch, padding included: bounds its memory


@dataclass(frozen=True)
class Prepared:
    """An item's input by modality, arrays of any length, and notes for its result."""

    values: dict[str, np.ndarray]
    notes: tuple[str, ...] = field(default=())

    @property
    def size(self) -> int:
        """What batches are sorted by: the longest input."""
        return max(len(one) for one in self.values.values())


@dataclass(frozen=True)
class Padded:
    """How one modality's arrays become a batch: their dtype and width, filler, and fixed length."""

    dtype: np.dtype
    width: tuple[int, ...]
    fill: int
    length: int | None


def padded(
    values: Sequence[np.ndarray | None], how: Padded
) -> tuple[np.ndarray, np.ndarray] | None:
    """`values` [B, length, *width] and the bool mask of what is valid; None if there is no value.

    A value of None is a row whose mask is all False.
    """
    counts = [0 if one is None else len(one) for one in values]
    if not any(counts):
        return None
    length = how.length or max(counts)
    filled = np.full((len(values), length, *how.width), how.fill, how.dtype)
    for row, one in zip(filled, values, strict=True):
        if one is not None:
            row[: len(one)] = one
    return filled, np.arange(length) < np.array(counts)[:, None]


def one_by_one(predictor: Predictor, items: Iterable[Item]) -> Iterator[Result]:
    """A result for each item, in this thread."""
    for item in items:
        made = _prepare(predictor, item)
        if isinstance(made, Refusal):
            yield made
        else:
            yield _prediction(item, made, predictor.results([made])[0])


def in_batches(
    predictor: Predictor, items: Iterable[Item], batch: int, workers: int | None
) -> Iterator[Result]:
    """A result for each item, in their order; see `Predictor.predictions`."""
    threads = workers or len(os.sched_getaffinity(0))
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:

        def submit() -> list[tuple[Item, Future[Prepared | Refusal]]]:
            group = itertools.islice(source, batch * AHEAD)
            return [(item, pool.submit(_prepare, predictor, item)) for item in group]

        try:
            waiting = submit()
            while waiting:
                done = [(item, future.result()) for item, future in waiting]
                waiting = submit()  # is prepared while the model is at work
                yield from _predict(predictor, done, batch)
        finally:
            pool.shutdown(cancel_futures=True)


def _predict(
    predictor: Predictor, group: Sequence[tuple[Item, Prepared | Refusal]], batch: int
) -> Iterator[Result]:
    results: list[Result | None] = [
        made if isinstance(made, Refusal) else None for _, made in group
    ]
    ready = [(n, item, made) for n, (item, made) in enumerate(group) if isinstance(made, Prepared)]
    ready.sort(key=lambda one: one[2].size)  # little padding
    for part in _parts(ready, batch):
        found = predictor.results([made for _, _, made in part])
        for (number, item, made), numbers in zip(part, found, strict=True):
            results[number] = _prediction(item, made, numbers)
    for one in results:
        assert one is not None
        yield one


Ready = tuple[int, Item, Prepared]


def _parts(ready: Sequence[Ready], batch: int) -> Iterator[list[Ready]]:
    """Batches of at most `batch` items and about `PLACES` places; sorted by size."""
    part: list[Ready] = []
    for one in ready:
        if part and (len(part) == batch or one[2].size * (len(part) + 1) > PLACES):
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _prepare(predictor: Predictor, item: Item) -> Prepared | Refusal:
    try:
        return predictor.prepare(item)
    # ValueError: a `UserError`, and what libraries say of data that they did not expect.
    except (ValueError, OSError, MemoryError) as error:
        reason, kind = str(error) or type(error).__name__, getattr(error, "kind", None)
        return Refusal(item.name, reason, item.start, item.end, kind)


def _prediction(item: Item, made: Prepared, found: Numbers) -> Prediction:
    return Prediction(
        item.name, found.probabilities, item.start, item.end, made.notes, found.attributes
    )
