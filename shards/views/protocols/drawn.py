"""Protocols that are drawn by seed: turns, dialogues or scripts at random."""

from __future__ import annotations

import numpy as np

from shards.corpora.labels import LabelSet
from shards.views.protocols.base import ALL_PAIRS, TEST, TRAIN, VAL, Assigned, Protocol, Settings
from shards.views.protocols.groups import draw_groups, keep_in_one_part
from shards.views.turns import Turns, ViewError


def shares(config: Settings) -> dict[int, float]:
    val = config.val
    if config.val_from_train is not None:
        val = config.val_from_train * (1 - config.test)
    return {TEST: config.test, VAL: val}


def _random(turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings) -> Assigned:
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
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    return draw_groups(turns.dialogue, labels, label_set, shares(config), config, "dialogue"), []


def _script_disjoint(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    # A turn without script and text shares nothing: it is a group of its own.
    own = np.where(turns.text == "", "id:" + turns.ids, "text:" + turns.text)
    groups = np.where(turns.script == "", own, "script:" + turns.script)
    parts = draw_groups(groups, labels, label_set, shares(config), config, "script or text")
    note = keep_in_one_part(parts, np.flatnonzero(turns.text != ""), turns.text)
    return parts, [f"turns left out because their text is in another part: {note}"]


RANDOM = Protocol(_random, lambda config: {})
RANDOM_DIALOGUES = Protocol(_random_dialogues, lambda config: {"dialogue": ALL_PAIRS})
SCRIPT_DISJOINT = Protocol(
    _script_disjoint, lambda config: {"script": ALL_PAIRS, "text": ALL_PAIRS}
)
