"""Views: protocols as filters over the rows of a dataset; the shards stay as they are.

A view lists the rows of its three parts. Validation and test hold clean rows only; training holds
every variant of its utterances. Rows outside the label set are in no part. Where a view keeps
dialogues whole, they still serve as context (`View.dialogues`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.corpora.labels import LabelSet, label_set
from shards.corpora.utterance import CODES, Utterance
from shards.errors import nearest
from shards.views.config import ViewConfig
from shards.views.leakage import Overlap, check_rows, in_several_corpora, overlap_of
from shards.views.protocols import PROTOCOLS
from shards.views.protocols.base import NOWHERE, PARTS, TEST, VAL
from shards.views.protocols.groups import keep_recordings_together
from shards.views.turns import COLUMNS, CORPUS, Turns, ViewError, turns_of

if TYPE_CHECKING:
    from shards.store.index import Dataset

__all__ = ["COLUMNS", "View", "ViewConfig", "ViewError", "columns_of", "folds", "make_view"]

Source = Mapping[str, Any] | Sequence[Utterance]


@dataclass(frozen=True)
class View:
    """The rows of one experiment.

    `train` (all variants), `val` and `test` (clean only) are int64 row numbers, ascending.
    `labels` is int64 [rows], the class of every row, -1 outside the label set. `overlap` is
    `leakage.overlap_of`'s report, ready for JSON. `digest` is a hash of the utterance ids of each
    part: views with the same digest train, select and test on the same turns. `name` states
    protocol, shares, fold and seed.
    """

    config: ViewConfig
    name: str
    label_set: LabelSet
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    overlap: Overlap
    notes: tuple[str, ...]
    digest: str
    _dialogues: _Dialogues = field(repr=False)

    def rows(self, part: str) -> np.ndarray:
        """The rows of part "train", "val" or "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    def dialogues(self, part: str) -> list[np.ndarray]:
        """The whole dialogues of a part: the clean rows of each, int64 [turns], in order of turns.

        Rows that are not in `rows(part)` (outside the label set, or without a majority) are
        included as context. They count in no loss and no metric.

        Raises:
            ViewError: the view splits a dialogue. A context model would then see, around a test
                turn, turns that it was trained on, and those give the label away.
        """
        found = self._dialogues
        split = np.flatnonzero(found.parts.sum(axis=1) > 1)
        if len(split):
            raise self._split(int(split[0]))
        ends = np.append(found.starts[1:], len(found.rows))
        chosen = np.flatnonzero(found.parts[:, PARTS.index(part)])
        return [found.rows[found.starts[one] : ends[one]] for one in chosen]

    def _split(self, number: int) -> ViewError:
        here = self._dialogues.parts[number]
        parts = " and ".join(part for part, there in zip(PARTS, here, strict=True) if there)
        return ViewError(
            f"view {self.name!r} puts dialogue {self._dialogues.names[number]} into {parts}; a "
            "context model needs whole dialogues: use random_dialogues or leave_one_session_out"
        )


@dataclass(frozen=True)
class _Dialogues:
    """The clean rows of all dialogues, one dialogue after the other, in order of turns.

    `rows` int64 [turns]; `names` and `starts` (in `rows`) [dialogues]; `parts` bool [dialogues,
    parts]: whether a turn of the dialogue is in the part.
    """

    names: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, turns: Turns, parts: np.ndarray) -> _Dialogues:
        """Those of `turns`, whose part is `parts` int8 [turns]."""
        of_turn, names = turns.coded("dialogue")
        # By dialogue, then by turn number: lexsort takes its last key first. It is stable, so
        # turns without numbers stay in the order of their ids.
        order = np.lexsort((turns.turn, of_turn))
        starts = np.searchsorted(of_turn[order], np.arange(len(names)))
        has_turns = np.zeros((len(names), len(PARTS) + 1), bool)
        has_turns[of_turn, parts] = True  # turns of no part have -1, which is the last column
        return cls(names, turns.clean[order], starts, has_turns[:, :-1])


def columns_of(dataset: Dataset) -> dict[str, Any]:
    """The columns of an opened dataset that `make_view` and `folds` read, as they are in Arrow."""
    there = dataset.table.column_names
    return {name: dataset.table[name] for name in (*COLUMNS, CORPUS) if name in there}


def make_view(columns: Source, config: ViewConfig) -> View:
    """Split index columns (`COLUMNS`) or utterances into the parts of `config`'s protocol.

    The same turns give the same view, in whatever order the rows are. So do the index and a corpus
    reader, as long as all recordings differ: a reader does not know. The columns `text`, `split`,
    `turn` and `recording` may be missing.

    Raises:
        ViewError: rows contradict each other; these turns cannot be split in this way; a class has
            no training turn; or the parts would share what the protocol keeps apart.
    """
    turns, chosen = turns_of(columns), label_set(config.labels)
    by_turn, there = _classes(turns, chosen)
    inside = np.flatnonzero(by_turn >= 0)
    if not len(inside):
        raise ViewError(f"no turn has a label of the set {chosen.name!r}; check corpus and labels")
    lacking = _check_words(chosen, there)

    parts = np.full(len(turns.ids), -1, np.int8)
    protocol = PROTOCOLS[config.protocol]
    assigned = protocol.assign(_subset(turns, inside), by_turn[inside], chosen, config)
    parts[inside], notes = assigned
    if protocol.splits_recordings:
        notes += keep_recordings_together(turns, parts, in_several_corpora(turns))
    else:
        notes += keep_recordings_together(turns, parts)
    _check_classes(parts, by_turn, chosen, config)

    # An augmented row keeps its turn's part only if that is training (0).
    row_parts = np.where(turns.is_clean | (parts[turns.of_row] == 0), parts[turns.of_row], -1)
    rows = {name: np.flatnonzero(row_parts == index) for index, name in enumerate(PARTS)}
    members = {name: np.flatnonzero(parts == index) for index, name in enumerate(PARTS)}
    labels = by_turn[turns.of_row]
    check_rows(turns, labels, rows, config)
    return View(
        config,
        _name(config),
        chosen,
        **rows,
        labels=labels,
        overlap=overlap_of(turns, members),
        notes=(*lacking, *notes),
        digest=_digest(turns, rows),
        _dialogues=_Dialogues.of(turns, parts),
    )


def whole_view(columns: Source, labels: str | dict[str, tuple[str, ...]], kept: np.ndarray) -> View:
    """A view for a model that was trained elsewhere: all clean turns of the set are the test part.

    Args:
        kept: bool [rows]; a turn whose clean row is not kept is in no part.

    Raises:
        ViewError: rows contradict each other, or no turn is left.
    """
    config = ViewConfig(labels=labels)
    turns, chosen = turns_of(columns), label_set(labels)
    by_turn, _ = _classes(turns, chosen)
    parts = np.where((by_turn >= 0) & kept[turns.clean], TEST, NOWHERE).astype(np.int8)
    rows = {name: np.empty(0, np.int64) for name in PARTS}
    rows["test"] = np.sort(turns.clean[parts == TEST])
    if not len(rows["test"]):
        raise ViewError(
            f"no turn is left to test on: none has a label of {', '.join(chosen.classes)} that "
            "may be used"
        )
    return View(
        config,
        "all turns",
        chosen,
        **rows,
        labels=by_turn[turns.of_row],
        overlap={},
        notes=(),
        digest=_digest(turns, rows),
        _dialogues=_Dialogues.of(turns, parts),
    )


def folds(columns: Source, config: ViewConfig) -> list[str]:
    """The values of `fold` that `config`'s protocol has: sessions, numbers, or none at all.

    Only those with turns of the label set count.
    """
    turns, chosen = turns_of(columns), label_set(config.labels)
    inside = np.flatnonzero(_classes(turns, chosen)[0] >= 0)
    return PROTOCOLS[config.protocol].folds(_subset(turns, inside), config)


def _classes(turns: Turns, chosen: LabelSet) -> tuple[np.ndarray, list[str]]:
    """The class of each turn, int64 [turns], -1 outside the set; and the labels that occur."""
    codes, labels = turns.coded("label")
    classes = np.array([*(chosen.class_of(label) for label in labels), -1], np.int64)
    return classes[codes], labels.tolist()


def _subset(turns: Turns, chosen: np.ndarray) -> Turns:
    per_row = ("of_row", "is_clean")  # not needed to assign parts
    facts = [f.name for f in fields(turns) if f.init and f.name not in per_row]
    return replace(turns, **{name: getattr(turns, name)[chosen] for name in facts})


def _check_words(chosen: LabelSet, there: Collection[str]) -> list[str]:
    """A note on words of the set that no turn has; codes that all corpora share may be absent.

    Raises:
        ViewError: such a word is almost that of turns which would be left out.
    """
    lacking = [word for codes in chosen.codes for word in codes if word not in {*there, *CODES}]
    outside = [word for word in there if chosen.class_of(word) < 0]
    near = {word: found for word in lacking if (found := nearest(word, outside, cutoff=0.75))}
    if near:
        raise ViewError(
            "; ".join(
                f"no turn has {word!r} of the label set {chosen.name!r}: did you mean {found!r}?"
                for word, found in near.items()
            )
        )
    return [f"no turn has the label {', '.join(map(repr, lacking))}"] if lacking else []


def _check_classes(
    parts: np.ndarray, labels: np.ndarray, chosen: LabelSet, config: ViewConfig
) -> None:
    counts = np.bincount(labels[parts == 0], minlength=len(chosen.classes))
    empty = [name for name, count in zip(chosen.classes, counts, strict=True) if not count]
    if empty:
        there = np.bincount(labels[labels >= 0], minlength=len(chosen.classes)) > 0
        absent = [name for name, here in zip(chosen.classes, there, strict=True) if not here]
        if absent and there.sum() >= 2:
            kept = zip(chosen.classes, chosen.codes, there, strict=True)
            named = json.dumps({name: codes for name, codes, here in kept if here})
            raise ViewError(
                f"no turn has the class {', '.join(absent)} of the set {chosen.name!r}: the corpus "
                f"lacks it; set labels='{named}' in this view (training: data.view.labels)"
            )
        raise ViewError(
            f"class {', '.join(empty)} of the set {chosen.name!r} has no training turn under "
            f"{_name(config)}; use a label set without it, or another protocol or fold"
        )
    for index in range(VAL, len(PARTS)):
        if not (parts == index).any():
            raise ViewError(
                f"the {PARTS[index]} part of {_name(config)} is empty; use larger shares"
            )


def _name(config: ViewConfig) -> str:
    val = config.val if config.val_from_train is None else config.val_from_train
    val_text = f"{100 * val:g} %" + (" of training" if config.val_from_train is not None else "")
    chosen = config.val_speakers
    if isinstance(chosen, int):
        val_text = f"{chosen} other speaker{'s' * (chosen > 1)}"
    elif chosen is not None:
        val_text = f"speakers {', '.join(chosen)}"
    val_is_set = config.val_from_train is not None or chosen is not None
    if config.fold is not None:
        numbered = PROTOCOLS[config.protocol].numbered
        whole = f" of {config.folds}" if numbered else ""
        drawn = f", validation {val_text}" if val_is_set else ""
        seed = f", seed {config.seed}" if drawn or numbered else ""
        return f"{config.protocol} {config.fold}{whole}{drawn}{seed}"
    if config.protocol == "official":
        return "official" + (f", validation {val_text}, seed {config.seed}" if chosen else "")
    test_text = f"{100 * config.test:g} %"
    if config.test_speakers is not None:
        test_text = f"speakers {', '.join(config.test_speakers)}"
    return f"{config.protocol}, test {test_text}, validation {val_text}, seed {config.seed}"


def _digest(turns: Turns, rows: dict[str, np.ndarray]) -> str:
    """SHA-256 over the sorted utterance ids of each part (hex)."""
    total = hashlib.sha256()
    for part in PARTS:
        ids = turns.ids[np.unique(turns.of_row[rows[part]])]
        total.update("\n".join([f"[{part}]", *ids, ""]).encode())
    return total.hexdigest()
