"""Protocols that follow the corpus' own split: its parts, or its folds."""

from __future__ import annotations

import numpy as np

from shards.corpora.labels import LabelSet
from shards.views.codes import objects
from shards.views.protocols.base import (
    NOWHERE,
    PARTS,
    TEST,
    TRAIN,
    VAL,
    Assigned,
    Protocol,
    Settings,
    chosen_fold,
)
from shards.views.protocols.groups import draw_groups, take_speakers
from shards.views.turns import Turns, ViewError


def _official(turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings) -> Assigned:
    named = {"train": TRAIN, "val": VAL, "test": TEST, "": NOWHERE}
    codes, splits = turns.coded("split")
    unknown = [name for name in splits if name not in named]
    if unknown:
        raise ViewError(
            f"unknown official split {', '.join(unknown)}; known: train, val, test. If these are "
            "folds, use the protocol official_folds"
        )
    parts = np.array([*(named[name] for name in splits), NOWHERE], np.int8)[codes]
    for part in (TRAIN, TEST):
        if not (parts == part).any():
            raise ViewError(
                f"the corpus has no official split: no turn of the label set is marked "
                f"{PARTS[part]!r}; map its split column in the corpus' configuration, or use "
                "another protocol"
            )
    if (parts == VAL).any():
        return parts, []
    if config.val_speakers is not None:
        return parts, take_speakers(parts, turns, labels, label_set, config)
    rest = parts == TRAIN
    share = config.val_from_train or config.val * np.count_nonzero(parts >= 0) / rest.sum()
    if share >= 1:
        raise ViewError(f"val {config.val} of all turns is more than the official training part")
    parts[rest] = draw_groups(
        turns.dialogue[rest], labels[rest], label_set, {VAL: share}, config, "dialogue"
    )
    return parts, ["the corpus has no validation part: drawn from its training part"]


def _official_folds(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    known = OFFICIAL_FOLDS.folds(turns, config)
    if len(known) < 2 or set(known) <= set(PARTS):
        raise ViewError(
            "the corpus has no official folds: its index names "
            f"{', '.join(known) or 'no split at all'}. Map the column of its folds to split in the "
            "corpus' configuration and build again, or use official or speaker_folds"
        )
    fold = chosen_fold(known, config)
    codes, splits = turns.coded("split")
    split = objects([*splits, ""])[codes]
    parts = np.where(split == "", NOWHERE, TRAIN).astype(np.int8)
    parts[split == fold] = TEST
    rest = parts == TRAIN
    if config.val_speakers is not None:
        return parts, take_speakers(parts, turns, labels, label_set, config)
    if config.val_from_train is not None or len(known) < 3:
        share = {VAL: config.val_from_train or config.val}
        parts[rest] = draw_groups(
            turns.dialogue[rest], labels[rest], label_set, share, config, "dialogue"
        )
        return parts, []
    following = known[(known.index(fold) + 1) % len(known)]
    parts[split == following] = VAL
    return parts, [f"validation is fold {following}"]


# Their parts are not ours to change.
OFFICIAL = Protocol(_official, lambda config: {}, splits_recordings=True, reads=("val_speakers",))
OFFICIAL_FOLDS = Protocol(
    _official_folds, lambda config: {}, fold="split", splits_recordings=True,
    reads=("val_speakers",),
)  # fmt: skip
