"""Protocols: which part of an experiment (training, validation, test) each turn belongs to.

=======================  ==========================================================================
`random`                 turns at random, stratified on the label, as scikit-learn's
                         `train_test_split` does it on turns sorted by id: test first, then
                         validation. Speakers, dialogues and texts are shared between the parts.
`random_dialogues`       whole dialogues at random: of many draws, the one whose parts come nearest
                         to the shares in every class.
`leave_one_session_out`  the fold's session is the test part, the next session (in cyclic order)
                         validation, so that all three parts have their own speakers. With
                         `val_from_train`, validation is that share of the other sessions' turns,
                         in whole dialogues: more turns to train on, but validation then has
                         speakers of the training part.
`leave_one_speaker_out`  the fold's speaker is the test part; validation is the other speaker of
                         the session, as is customary (the next of them where there are more, the
                         next of all where there is none). This splits the two sides of a dialogue.
`official`               the corpus' own split. A missing validation part is drawn from its
                         training part, in whole dialogues.
`script_disjoint`        no script and no text in two parts. Turns of scripted dialogues are grouped
                         by script (`turns.script_of`), all others by text. A text that is still in
                         two parts ("Okay.") stays where most of its turns are; its other turns
                         leave the view, which states their number.
=======================  ==========================================================================

In every protocol but `official`, whose parts are not ours to change, turns with the same recording
are in one part: the others of them leave the view, which states their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from shards.configfile import Config
from shards.corpora.labels import LabelSet, LabelSpec
from shards.views.turns import Turns, ViewError

TRAIN, VAL, TEST, NOWHERE = 0, 1, 2, -1
PARTS = ("train", "val", "test")
ALL_PAIRS = (frozenset({"train", "test"}), frozenset({"train", "val"}), frozenset({"val", "test"}))
PAIRS_WITH_TEST = tuple(pair for pair in ALL_PAIRS if "test" in pair)
Promises = dict[str, tuple[frozenset[str], ...]]  # fact -> pairs of parts that do not share it

Share = Annotated[float, Field(gt=0, lt=1)]
_DRAWS = 256  # random orders of the groups to choose from
_DRAW_CELLS = 2_000_000  # draws x groups x classes at most, to bound memory and time


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
        splits_recordings: whether turns with the same recording may be in several parts.
    """

    assign: Callable[[Turns, np.ndarray, LabelSet, ViewConfig], tuple[np.ndarray, list[str]]]
    keeps_apart: Callable[[ViewConfig], Promises]
    fold: str | None = None
    splits_recordings: bool = False


def _shares(config: ViewConfig) -> dict[int, float]:
    val = config.val
    if config.val_from_train is not None:
        val = config.val_from_train * (1 - config.test)
    return {TEST: config.test, VAL: val}


def _random(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    from sklearn.model_selection import train_test_split  # takes a second to import

    everything = np.arange(len(labels))
    # A count, not the share val / (1 - test) of the rest: that is the same but for rounding, and a
    # turn more or less would be another split.
    val = config.val_from_train or round(config.val * len(labels))
    try:
        rest, test = train_test_split(
            everything, test_size=config.test, stratify=labels, random_state=config.seed
        )
        train, val_rows = train_test_split(
            rest, test_size=val, stratify=labels[rest], random_state=config.seed
        )
    except ValueError as error:
        counts = np.bincount(labels, minlength=len(label_set.classes))
        listed = ", ".join(f"{n} {c}" for c, n in zip(label_set.classes, counts, strict=True))
        raise ViewError(
            f"protocol random cannot stratify these {len(labels)} turns ({listed}) into test "
            f"{config.test} and validation {config.val_from_train or config.val}: {error} "
            "Give it more turns, larger shares, or a label set without the rare class"
        ) from None
    parts = np.empty(len(labels), np.int8)
    parts[train], parts[val_rows], parts[test] = TRAIN, VAL, TEST
    return parts, []


def _random_dialogues(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    shares = _shares(config)
    return _draw_groups(turns.dialogue, labels, label_set, shares, config, "dialogue"), []


def _leave_session(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    fold, sessions = _fold(turns, config)
    parts = np.where(turns.session == fold, TEST, TRAIN).astype(np.int8)
    rest = parts == TRAIN
    if config.val_from_train is not None:
        share = {VAL: config.val_from_train}
        parts[rest] = _draw_groups(
            turns.dialogue[rest], labels[rest], label_set, share, config, "dialogue"
        )
        return parts, []
    if len(sessions) < 3:
        raise ViewError(
            f"leave_one_session_out needs three sessions (to test, validate and train), here are "
            f"only {', '.join(sessions)}; set val_from_train to draw validation from the training "
            "turns"
        )
    following = sessions[(sessions.index(fold) + 1) % len(sessions)]
    parts[turns.session == following] = VAL
    return parts, [f"validation is session {following}"]


def _leave_speaker(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    fold, speakers = _fold(turns, config)
    if len(speakers) < 3:
        raise ViewError(
            "leave_one_speaker_out needs three speakers (to test, validate and train), here are "
            f"only {', '.join(speakers)}; use another protocol"
        )
    sessions = set(turns.session[turns.speaker == fold])
    beside = set(turns.speaker[np.isin(turns.session, list(sessions))])
    circle = sorted(beside) if len(beside) > 1 else speakers
    other = circle[(circle.index(fold) + 1) % len(circle)]
    parts = np.full(len(turns.ids), TRAIN, np.int8)
    parts[turns.speaker == fold] = TEST
    parts[turns.speaker == other] = VAL
    return parts, [f"validation is speaker {other}"]


def _fold(turns: Turns, config: ViewConfig) -> tuple[str, list[str]]:
    known = folds_of(turns, config.protocol)
    if config.fold not in known:
        given = "needs a fold" if config.fold is None else f"has no fold {config.fold!r}"
        raise ViewError(f"{config.protocol} {given}; the folds are: {', '.join(known) or '(none)'}")
    return config.fold, known


def _official(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    named = {"train": TRAIN, "val": VAL, "test": TEST, None: NOWHERE, "": NOWHERE}
    unknown = sorted({str(value) for value in turns.split if value not in named})
    if unknown:
        raise ViewError(f"unknown official split {', '.join(unknown)}; known: train, val, test")
    parts = np.array([named[value] for value in turns.split], np.int8)
    for part in (TRAIN, TEST):
        if not (parts == part).any():
            raise ViewError(
                f"the corpus has no official split: no turn of the label set is marked "
                f"{PARTS[part]!r}; map its split column in the corpus' configuration, or use "
                "another protocol"
            )
    if (parts == VAL).any():
        return parts, []
    rest = parts == TRAIN
    share = config.val_from_train or config.val * np.count_nonzero(parts >= 0) / rest.sum()
    if share >= 1:
        raise ViewError(f"val {config.val} of all turns is more than the official training part")
    parts[rest] = _draw_groups(
        turns.dialogue[rest], labels[rest], label_set, {VAL: share}, config, "dialogue"
    )
    return parts, ["the corpus has no validation part: drawn from its training part"]


def _script_disjoint(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: ViewConfig
) -> tuple[np.ndarray, list[str]]:
    # A turn without script and text shares nothing: it is a group of its own.
    own = np.where(turns.text == "", "id:" + turns.ids, "text:" + turns.text)
    groups = np.where(turns.script == "", own, "script:" + turns.script)
    shares = _shares(config)
    parts = _draw_groups(groups, labels, label_set, shares, config, "script or text")
    note = _keep_in_one_part(parts, np.flatnonzero(turns.text != ""), turns.text)
    return parts, [f"turns left out because their text is in another part: {note}"]


def keep_recordings_together(turns: Turns, parts: np.ndarray) -> list[str]:
    """Take turns out of `parts` (int8 [turns]) whose recording is in another part as well.

    A recording stays in the part that has most of its turns.

    Returns:
        A note with their number, if there are any.
    """
    known = np.array([value is not None for value in turns.recording], bool)
    before = np.count_nonzero(parts == NOWHERE)
    note = _keep_in_one_part(parts, np.flatnonzero(known & (parts != NOWHERE)), turns.recording)
    if np.count_nonzero(parts == NOWHERE) == before:
        return []
    return [f"turns left out because the same recording is in another part: {note}"]


def _keep_in_one_part(parts: np.ndarray, chosen: np.ndarray, values: np.ndarray) -> str:
    """Leave each value of the `chosen` turns in the part that has most of it; count what left."""
    _, number = np.unique(values[chosen].astype(str), return_inverse=True)
    counts = np.zeros((number.max(initial=-1) + 1, len(PARTS)), np.int64)
    # Not `counts[...] += 1`, which would count a pair of indices once however often it occurs.
    np.add.at(counts, (number, parts[chosen]), 1)
    gone = chosen[counts.argmax(axis=1)[number] != parts[chosen]]
    told = ", ".join(f"{np.sum(parts[gone] == i)} {name}" for i, name in enumerate(PARTS))
    parts[gone] = NOWHERE
    return told


def _draw_groups(
    groups: np.ndarray,
    labels: np.ndarray,
    label_set: LabelSet,
    shares: dict[int, float],
    config: ViewConfig,
    what: str,
) -> np.ndarray:
    """Assign whole groups to the parts of `shares` (the rest is TRAIN), every class to each part.

    Many orders of the groups are drawn from the seed. In each order the parts are consecutive runs
    of groups, cut where the number of turns comes nearest to the share. The order whose class
    counts are nearest to the ideal ones (chi-squared) wins.

    Returns int8 [turns]. Raises ViewError if some part would have no turn of some class.
    """
    names, of_turn = np.unique(groups.astype(str), return_inverse=True)
    classes = len(label_set.classes)
    table = np.zeros((len(names), classes), np.int64)
    np.add.at(table, (of_turn, labels), 1)
    scattered = {c: int((table[:, i] > 0).sum()) for i, c in enumerate(label_set.classes)}
    few = [f"{c} in {n}" for c, n in scattered.items() if n <= len(shares)]
    if few:
        raise ViewError(
            f"{config.protocol} wants every class in each of {len(shares) + 1} parts, but these "
            f"occur in too few {what} groups: {', '.join(few)}; use a label set without them"
        )
    draws = int(np.clip(_DRAW_CELLS // table.size, 8, _DRAWS))
    # `RandomState`, because numpy promises never to change its stream, and a stable sort: the same
    # seed must give the same parts under every release.
    keys = np.random.RandomState(config.seed).random_sample((draws, len(names)))
    order = keys.argsort(axis=1, kind="stable")
    filled = table[order].cumsum(axis=1)  # [draws, groups, classes]
    size = filled.sum(axis=2)
    wanted = np.cumsum(list(shares.values()))
    ends = [abs(size - share * len(labels)).argmin(axis=1) for share in wanted]
    ends.append(np.full(draws, len(names) - 1))
    reached = np.stack([filled[np.arange(draws), end] for end in ends], axis=1)
    got = np.diff(reached, axis=1, prepend=0)  # [draws, parts, classes]
    ideal = np.array([*shares.values(), 1 - wanted[-1]])[:, None] * table.sum(axis=0)
    # A part without a class costs more than any deviation: it wins only if all draws have one.
    cost = ((got - ideal) ** 2 / ideal).sum(axis=(1, 2)) + 1e9 * (got == 0).sum(axis=(1, 2))
    best = int(cost.argmin())
    lacking = [c for i, c in enumerate(label_set.classes) if (got[best, :, i] == 0).any()]
    if lacking:
        raise ViewError(
            f"{config.protocol}: in {draws} draws of whole {what} groups with seed {config.seed} "
            f"some part always lacked {', '.join(lacking)}; use another seed, larger shares, or a "
            "label set without the rare classes"
        )
    # The inverse of the permutation: where each group stands in the order that won.
    place = np.empty(len(names), np.int64)
    place[order[best]] = np.arange(len(names))
    run = np.searchsorted([end[best] for end in ends], place)
    return np.array([*shares, TRAIN], np.int8)[run][of_turn]


def _sessions_apart(config: ViewConfig) -> Promises:
    # Validation drawn from the training sessions shares their speakers.
    pairs = ALL_PAIRS if config.val_from_train is None else PAIRS_WITH_TEST
    return {"speaker": pairs, "session": pairs, "dialogue": ALL_PAIRS}


PROTOCOLS: dict[str, Protocol] = {
    "random": Protocol(_random, lambda config: {}),
    "random_dialogues": Protocol(_random_dialogues, lambda config: {"dialogue": ALL_PAIRS}),
    "leave_one_session_out": Protocol(_leave_session, _sessions_apart, fold="session"),
    "leave_one_speaker_out": Protocol(
        _leave_speaker, lambda config: {"speaker": ALL_PAIRS}, fold="speaker"
    ),
    "official": Protocol(_official, lambda config: {}, splits_recordings=True),
    "script_disjoint": Protocol(
        _script_disjoint, lambda config: {"script": ALL_PAIRS, "text": ALL_PAIRS}
    ),
}

if TYPE_CHECKING:
    ProtocolName = str
else:
    ProtocolName = Literal[tuple(PROTOCOLS)]


class ViewConfig(Config):
    """Which rows train, select and test a model; this module's docstring lists the protocols.

    `test` and `val` are shares of all turns of the label set. With `val_from_train`, validation is
    that share of the turns that are not test instead. `fold` names the session or speaker that is
    the test part.
    """

    protocol: ProtocolName = "random"
    labels: LabelSpec = "five"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    fold: str | None = None
    test: Share = 0.1
    val: Share = 0.2
    val_from_train: Share | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> ViewConfig:
        if self.val_from_train is None and self.test + self.val >= 1:
            raise ValueError("test and val together must stay below 1")
        if self.fold is not None and PROTOCOLS[self.protocol].fold is None:
            raise ValueError(f"protocol {self.protocol} has no folds; leave fold out")
        if self.val_from_train is not None and self.protocol == "leave_one_speaker_out":
            raise ValueError("leave_one_speaker_out validates on a speaker, not on val_from_train")
        return self


def folds_of(turns: Turns, protocol: str) -> list[str]:
    """The folds of a protocol, sorted; none for a protocol that is drawn by seed."""
    fact = PROTOCOLS[protocol].fold
    return [] if fact is None else sorted(set(getattr(turns, fact)))
