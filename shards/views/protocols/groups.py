"""Whole groups of turns (dialogues, speakers, scripts) drawn into parts, or dealt into folds."""

from __future__ import annotations

import numpy as np

from shards.corpora.labels import LabelSet
from shards.views.codes import encode
from shards.views.protocols.base import (
    NOWHERE,
    PARTS,
    TRAIN,
    VAL,
    Settings,
    check_speakers,
)
from shards.views.turns import Turns, ViewError

_DRAWS = 256  # random orders of the groups to choose from
_DRAW_CELLS = 2_000_000  # draws x groups x classes at most, to bound memory and time


def draw_groups(
    groups: np.ndarray,
    labels: np.ndarray,
    label_set: LabelSet,
    shares: dict[int, float],
    config: Settings,
    what: str,
) -> np.ndarray:
    """Assign whole groups to the parts of `shares` (the rest is TRAIN), every class to each part.

    Many orders of the groups are drawn from the seed. In each order the parts are consecutive runs
    of groups, cut where the number of turns comes nearest to the share. The order whose class
    counts are nearest to the ideal ones (chi-squared) wins.

    Returns int8 [turns]. Raises ViewError if some part would have no turn of some class.
    """
    names, of_turn, table = _count(groups, labels, label_set)
    scattered = {c: int((table[:, i] > 0).sum()) for i, c in enumerate(label_set.classes)}
    few = [f"{c} in {n}" for c, n in scattered.items() if n <= len(shares)]
    if few:
        raise ViewError(
            f"{config.protocol} wants every class in each of {len(shares) + 1} parts, but these "
            f"occur in too few {what} groups: {', '.join(few)}; use a label set without them"
        )
    order = _random_orders(table, config.seed)
    draws = len(order)
    filled = table[order].cumsum(axis=1)  # [draws, groups, classes]
    size = filled.sum(axis=2)
    wanted = np.cumsum(list(shares.values()))
    ends = [abs(size - share * len(labels)).argmin(axis=1) for share in wanted]
    ends.append(np.full(draws, len(names) - 1))
    reached = np.stack([filled[np.arange(draws), end] for end in ends], axis=1)
    got = np.diff(reached, axis=1, prepend=0)  # [draws, parts, classes]
    ideal = np.array([*shares.values(), 1 - wanted[-1]])[:, None] * table.sum(axis=0)
    cost = _cost(got, ideal, (1, 2))
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


def deal_speakers(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> np.ndarray:
    """The fold of each turn, int64 [turns] from 0: whole speakers, every fold alike in all classes.

    Speakers are placed one by one, large ones first, into the fold that has least of their classes.
    That is tried in many orders, drawn from the seed; the one whose folds are most alike wins.

    Raises ViewError if there are fewer speakers than folds.
    """
    names, of_turn, table = _count(turns.speaker, labels, label_set)
    if len(names) < config.folds:
        raise ViewError(
            f"{config.protocol} cannot deal {len(names)} speakers into {config.folds} folds: set "
            f"data.view.folds to {len(names)} or less"
        )
    share = table / np.maximum(table.sum(axis=0), 1)  # [speakers, classes], of all turns of a class
    order = _random_orders(table, config.seed)
    draws, rows = len(order), np.arange(len(order))
    # Large speakers first, or the last of them would spoil folds that were alike; but not strictly,
    # so that the draws differ.
    keys = order.argsort(axis=1) / len(names)
    order = np.argsort(-share.sum(axis=1) * (0.5 + keys), axis=1, kind="stable")
    filled = np.zeros((draws, config.folds, share.shape[1]))
    members = np.zeros((draws, config.folds), np.int64)
    fold_of = np.empty((draws, len(names)), np.int64)
    for place in range(len(names)):
        speaker = order[:, place]
        own = share[speaker]
        # What the sum of squares of all folds' shares would grow by, but for a constant. Among
        # equals the fold with the fewest speakers, then the first.
        growth = np.einsum("dfc,dc->df", filled, own)
        fold = np.lexsort((members, growth.round(12)), axis=1)[:, 0]
        # A fold must not stay empty: the last speakers go to those that are.
        empty = members == 0
        late = empty.sum(axis=1) >= len(names) - place
        fold = np.where(late, empty.argmax(axis=1), fold)
        filled[rows, fold] += own
        members[rows, fold] += 1
        fold_of[rows, speaker] = fold
    return fold_of[int((filled**2).sum(axis=(1, 2)).round(12).argmin())][of_turn]


def take_speakers(
    parts: np.ndarray,
    turns: Turns,
    labels: np.ndarray,
    label_set: LabelSet,
    config: Settings,
) -> list[str]:
    """Make whole speakers of the training part validation, in `parts`: `config.val_speakers`.

    A number of them is drawn from the seed, so that their classes come near to those of all.

    Returns a note with their names. Raises ViewError if they are unknown, or leave none to train.
    """
    wanted, rest = config.val_speakers, np.flatnonzero(parts == TRAIN)
    assert wanted is not None
    names, of_rest, table = _count(turns.speaker[rest], labels[rest], label_set)
    known = names.tolist()
    if isinstance(wanted, int):
        if wanted >= len(known):
            raise ViewError(
                f"data.view.val_speakers={wanted}: {config.protocol} leaves {len(known)} speakers "
                "that are not test, and some of them must train; take fewer"
            )
        order = _random_orders(table, config.seed)[:, :wanted]
        cost = _cost(table[order].sum(axis=1), table.sum(axis=0) * wanted / len(known), (1,))
        chosen = sorted(names[order[int(cost.argmin())]].tolist())
    else:
        check_speakers(wanted, known, "val_speakers", "of the turns that are not test")
        chosen = sorted(set(wanted))
        if len(chosen) == len(known):
            raise ViewError("data.view.val_speakers names all speakers, which leaves none to train")
    parts[rest[np.isin(of_rest, np.flatnonzero(np.isin(names, chosen)))]] = VAL
    shown = ", ".join(chosen[:8]) + (f" and {len(chosen) - 8} more" if chosen[8:] else "")
    return [f"validation is speaker{'s' * (len(chosen) > 1)} {shown}"]


def keep_recordings_together(
    turns: Turns, parts: np.ndarray, chosen: np.ndarray | None = None
) -> list[str]:
    """Take turns out of `parts` (int8 [turns]) whose recording is in another part as well.

    A recording stays in the part that has most of its turns. `chosen` bool [turns] are the turns
    to look at; None: all.

    Returns:
        A note with their number, if there are any.
    """
    known = turns.coded("recording")[0] >= 0
    if chosen is not None:
        known &= chosen
    before = np.count_nonzero(parts == NOWHERE)
    note = keep_in_one_part(parts, np.flatnonzero(known & (parts != NOWHERE)), turns.recording)
    if np.count_nonzero(parts == NOWHERE) == before:
        return []
    return [f"turns left out because the same recording is in another part: {note}"]


def keep_in_one_part(parts: np.ndarray, chosen: np.ndarray, values: np.ndarray) -> str:
    """Leave each value of the `chosen` turns in the part that has most of it; count what left."""
    number, _ = encode(values[chosen])
    counts = np.zeros((number.max(initial=-1) + 1, len(PARTS)), np.int64)
    # Not `counts[...] += 1`, which would count a pair of indices once however often it occurs.
    np.add.at(counts, (number, parts[chosen]), 1)
    gone = chosen[counts.argmax(axis=1)[number] != parts[chosen]]
    told = ", ".join(f"{np.sum(parts[gone] == i)} {name}" for i, name in enumerate(PARTS))
    parts[gone] = NOWHERE
    return told


def _count(
    groups: np.ndarray, labels: np.ndarray, label_set: LabelSet
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups' names, sorted; the group of each turn; turns by group and class, int64."""
    of_turn, names = encode(groups)
    table = np.zeros((len(names), len(label_set.classes)), np.int64)
    np.add.at(table, (of_turn, labels), 1)
    return names, of_turn, table


def _random_orders(table: np.ndarray, seed: int) -> np.ndarray:
    """Orders of the groups of `table` [groups, classes], int64 [draws, groups]."""
    draws = int(np.clip(_DRAW_CELLS // table.size, 8, _DRAWS))
    # `RandomState`, because numpy promises never to change its stream, and a stable sort: the same
    # seed must give the same parts under every release.
    keys = np.random.RandomState(seed).random_sample((draws, len(table)))
    return keys.argsort(axis=1, kind="stable")


def _cost(got: np.ndarray, ideal: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Chi-squared distance of class counts to the ideal ones, summed over `axes`."""
    # A part without a class costs more than any deviation: it wins only if all draws have one.
    there = ideal > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(there, (got - ideal) ** 2 / ideal, 0)
    return np.asarray(distance.sum(axis=axes) + 1e9 * ((got == 0) & there).sum(axis=axes))
