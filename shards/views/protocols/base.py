"""What a protocol is, and the settings of a view that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np

from shards.corpora.labels import LabelSet
from shards.errors import suggestion
from shards.views.turns import Turns, ViewError

TRAIN, VAL, TEST, NOWHERE = 0, 1, 2, -1
PARTS = ("train", "val", "test")
ALL_PAIRS = (frozenset({"train", "test"}), frozenset({"train", "val"}), frozenset({"val", "test"}))
PAIRS_WITH_TEST = tuple(pair for pair in ALL_PAIRS if "test" in pair)
Promises = dict[str, tuple[frozenset[str], ...]]  # fact -> pairs of parts that do not share it
Assigned = tuple[np.ndarray, list[str]]  # the part of each turn, int8 [turns], and notes to show


class Settings(Interface):
    """What protocols read of `ViewConfig`, which is made from the list of them."""

    @property
    def protocol(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def fold(self) -> str | None: ...
    @property
    def test(self) -> float: ...
    @property
    def val(self) -> float: ...
    @property
    def val_from_train(self) -> float | None: ...
    @property
    def folds(self) -> int: ...
    @property
    def test_speakers(self) -> tuple[str, ...] | None: ...
    @property
    def val_speakers(self) -> int | tuple[str, ...] | None: ...


@dataclass(frozen=True)
class Protocol:
    """One way to assign every turn to a part.

    Attributes:
        assign: (turns of the label set, their classes int64 [turns], the label set, the view's
            settings) -> the part of each turn, int8 [turns], and notes to show. Raises ViewError if
            these turns cannot be split in this way.
        keeps_apart: the view's settings -> by fact ("speaker"), the pairs of parts that must not
            share a value of it. `shards.views.leakage` refuses a view that breaks this.
        fold: the fact whose values are the folds ("session", "speaker"); None for a protocol that
            is drawn by seed.
        numbered: the folds are numbered from 1 to the setting `folds` instead.
        splits_recordings: whether turns with the same recording may be in several parts.
        reads: the settings that it reads besides those of every protocol.
    """

    assign: Callable[[Turns, np.ndarray, LabelSet, Settings], Assigned]
    keeps_apart: Callable[[Settings], Promises]
    fold: str | None = None
    numbered: bool = False
    splits_recordings: bool = False
    reads: tuple[str, ...] = ()

    @property
    def has_folds(self) -> bool:
        return self.numbered or self.fold is not None

    def folds(self, turns: Turns, config: Settings) -> list[str]:
        """The folds, sorted; none for a protocol that is drawn by seed."""
        if self.numbered:
            return [str(number + 1) for number in range(config.folds)]
        if self.fold is None:
            return []
        return sorted(
            {str(value) for value in getattr(turns, self.fold) if value not in (None, "")}
        )


def chosen_fold(known: Sequence[str], config: Settings) -> str:
    """The view's fold, one of `known`. Raises ViewError."""
    if config.fold is None or config.fold not in known:
        given = "needs a fold" if config.fold is None else f"has no fold {config.fold!r}"
        raise ViewError(f"{config.protocol} {given}; the folds are: {', '.join(known) or '(none)'}")
    return config.fold


def check_speakers(
    names: Iterable[str], known: Iterable[str], setting: str, taken: str = "of the label set"
) -> None:
    """Raise ViewError for `names` in `setting` that are not among the speakers `known`."""
    known = [str(name) for name in known]  # not numpy's, which show their type
    wrong = [f"{name!r}{suggestion(name, known)}" for name in names if name not in known]
    if wrong:
        shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if known[20:] else "")
        raise ViewError(
            f"data.view.{setting} names no speaker {taken}: {', '.join(wrong)}; these are: {shown}"
        )
