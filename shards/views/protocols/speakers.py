"""The protocol `speakers`: every speaker is in one part, by shares or by name."""

from __future__ import annotations

import numpy as np

from shards.corpora.labels import LabelSet
from shards.views.protocols.base import (
    ALL_PAIRS,
    TEST,
    TRAIN,
    VAL,
    Assigned,
    Protocol,
    Settings,
    check_speakers,
)
from shards.views.protocols.drawn import shares
from shards.views.protocols.groups import draw_groups, take_speakers
from shards.views.turns import Turns, ViewError


def _speakers(turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings) -> Assigned:
    speaker = turns.speaker
    if config.test_speakers is None:
        wanted = shares(config)
        if config.val_speakers is not None:
            del wanted[VAL]
        parts = draw_groups(speaker, labels, label_set, wanted, config, "speaker")
    else:
        codes, names = turns.coded("speaker")
        check_speakers(config.test_speakers, names, "test_speakers")
        tested = np.isin(names, config.test_speakers)[codes]
        parts = np.where(tested, TEST, TRAIN).astype(np.int8)
        if config.val_speakers is None:
            rest = parts == TRAIN
            share = config.val_from_train or config.val * len(labels) / max(rest.sum(), 1)
            if share >= 1:
                raise ViewError(
                    f"data.view.val={config.val:g} of all turns is more than test_speakers leaves: "
                    "take a smaller share, or name the speakers in val_speakers"
                )
            parts[rest] = draw_groups(
                speaker[rest], labels[rest], label_set, {VAL: share}, config, "speaker"
            )
    if config.val_speakers is None:
        return parts, []
    return parts, take_speakers(parts, turns, labels, label_set, config)


SPEAKERS = Protocol(
    _speakers, lambda config: {"speaker": ALL_PAIRS}, reads=("test_speakers", "val_speakers")
)
