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
from typing import Any

import numpy as np

from shards.corpora.labels import LabelSet, label_set
from shards.corpora.utterance import CODES, Utterance
from shards.errors import nearest
from shards.views.config import ViewConfig
from shards.views.leakage import Overlap, check_rows, overlap_of
from shards.views.protocols import PROTOCOLS
from shards.views.protocols.base import PARTS, VAL
from shards.views.protocols.groups import keep_recordings_together
from shards.views.turns import COLUMNS, Turns, ViewError, turns_of

__all__ = ["COLUMNS", "View", "ViewConfig", "ViewError", "folds", "make_view"]

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
    _dialogue_rows: Mapping[str, np.ndarray] = field(repr=False)
    _dialogue_parts: Mapping[str, frozenset[str]] = field(repr=False)

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
        for dialogue, parts in self._dialogue_parts.items():
            if len(parts) > 1:
                raise self._split(dialogue)
        chosen = [d for d, parts in self._dialogue_parts.items() if part in parts]
        return [self._dialogue_rows[dialogue] for dialogue in chosen]

    def _split(self, dialogue: str) -> ViewError:
        parts = " and ".join(part for part in PARTS if part in self._dialogue_parts[dialogue])
        return ViewError(
            f"view {self.name!r} puts dialogue {dialogue} into {parts}; a context model needs "
            "whole dialogues: use random_dialogues or leave_one_session_out"
        )


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
    classes = {code: chosen.class_of(code) for code in set(turns.label)}
    by_turn = np.array([classes[code] for code in turns.label], np.int64)
    inside = np.flatnonzero(by_turn >= 0)
    if not len(inside):
        raise ViewError(f"no turn has a label of the set {chosen.name!r}; check corpus and labels")
    lacking = _check_words(chosen, classes)

    parts = np.full(len(turns.ids), -1, np.int8)
    protocol = PROTOCOLS[config.protocol]
    assigned = protocol.assign(_subset(turns, inside), by_turn[inside], chosen, config)
    parts[inside], notes = assigned
    if not protocol.splits_recordings:
        notes += keep_recordings_together(turns, parts)
    _check_classes(parts, by_turn, chosen, config)

    # An augmented row keeps its turn's part only if that is training (0).
    row_parts = np.where(turns.is_clean | (parts[turns.of_row] == 0), parts[turns.of_row], -1)
    rows = {name: np.flatnonzero(row_parts == index) for index, name in enumerate(PARTS)}
    members = {name: np.flatnonzero(parts == index) for index, name in enumerate(PARTS)}
    labels = by_turn[turns.of_row]
    check_rows(turns, labels, rows, config)
    dialogue_rows, dialogue_parts = _dialogues(turns, parts)
    return View(
        config,
        _name(config),
        chosen,
        **rows,
        labels=labels,
        overlap=overlap_of(turns, members),
        notes=(*lacking, *notes),
        digest=_digest(turns, rows),
        _dialogue_rows=dialogue_rows,
        _dialogue_parts=dialogue_parts,
    )


def folds(columns: Source, config: ViewConfig) -> list[str]:
    """The values of `fold` that `config`'s protocol has: sessions, numbers, or none at all.

    Only those with turns of the label set count.
    """
    turns, chosen = turns_of(columns), label_set(config.labels)
    inside = [i for i, code in enumerate(turns.label) if chosen.class_of(code) >= 0]
    return PROTOCOLS[config.protocol].folds(_subset(turns, np.array(inside, np.int64)), config)


def _subset(turns: Turns, chosen: np.ndarray) -> Turns:
    per_row = ("of_row", "is_clean")  # not needed to assign parts
    facts = [f.name for f in fields(turns) if f.name not in per_row]
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


def _dialogues(
    turns: Turns, parts: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, frozenset[str]]]:
    names, of_turn = np.unique(turns.dialogue.astype(str), return_inverse=True)
    place = np.array([0 if turn is None else turn for turn in turns.turn], np.int64)
    # By dialogue, then by turn number: lexsort takes its last key first. It is stable, so turns
    # without numbers stay in the order of their ids.
    order = np.lexsort((place, of_turn))
    starts = np.searchsorted(of_turn[order], np.arange(1, len(names)))
    rows = np.split(turns.clean[order], starts)
    has_turns = np.zeros((len(names), len(PARTS) + 1), bool)
    has_turns[of_turn, parts] = True  # turns of no part have -1, which is the last column
    sides = [
        frozenset(part for part, here in zip(PARTS, flags, strict=False) if here)
        for flags in has_turns
    ]
    keys = names.tolist()
    return dict(zip(keys, rows, strict=True)), dict(zip(keys, sides, strict=True))


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
