"""What is learnt of every row, and how many damaged samples are too many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from emo.data.config import DataConfig
from emo.data.source import Supervision, TooMuchDamage, check_skipped
from shards.configfile import parse
from shards.store.index import Dataset, open_dataset
from shards.views.view import View, ViewConfig, make_view

# "sad" is outside.
VIEW = {"labels": {"anger": ["ang"], "happiness": ["hap"], "neutral": ["neu"]}, "test": 0.2}


@pytest.fixture
def voted(tiny: Path) -> tuple[Dataset, View]:
    """The tiny dataset, its first four turns (each clean and with noise) with votes of ours."""
    dataset = open_dataset(tiny)
    assert dataset.column("label")[:8:2].tolist() == ["ang", "hap", "neu", "sad"]
    votes = dataset.table["votes"].to_pylist()
    votes[0] = [["ang"], ["ang"], ["neu"]]
    votes[2] = [["hap"], ["hap", "neu"], ["sad"]]  # the vote outside is dropped
    votes[4] = [["sad"], ["sad"]]  # none is inside
    votes[6] = [["ang"], ["sad"], ["sad"]]  # the turn itself is outside
    place = dataset.table.column_names.index("votes")
    column = pa.array(votes, dataset.table["votes"].type)
    dataset = replace(dataset, table=dataset.table.set_column(place, "votes", column))
    names = ("utterance", "variant", "label", "speaker", "session", "dialogue", "turn")
    table = {name: dataset.column(name) for name in names}
    return dataset, make_view(table, parse(ViewConfig, VIEW, "a test"))


def test_soft_targets_are_the_votes_inside_the_label_set(voted: tuple[Dataset, View]) -> None:
    targets = Supervision.of(*voted, "soft").targets
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets[0], [2 / 3, 0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(targets[2], [0, 3 / 4, 1 / 4], rtol=1e-6)
    assert targets[4].tolist() == [0, 0, 1]  # its label
    assert targets[6].tolist() == [0, 0, 0]


def test_hard_targets_are_the_labels(voted: tuple[Dataset, View]) -> None:
    dataset, view = voted
    supervision = Supervision.of(dataset, view, "hard")
    assert supervision.targets[:8:2].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert supervision.labels.tolist() == view.labels.tolist()


@pytest.mark.parametrize(
    ("skipped", "seen", "allowed", "fine"),
    [(0, 0, 0.0, True), (1, 4, 0.0, True), (2, 400, 0.0, False), (4, 400, 0.01, True),
     (5, 400, 0.01, False), (400, 400, 1.0, True)],
)  # fmt: skip
def test_damage_is_bounded_but_the_first_is_allowed(
    skipped: int, seen: int, allowed: float, fine: bool
) -> None:
    config = DataConfig(shards=Path("some/shards"), max_skipped=allowed)
    if fine:
        check_skipped(skipped, seen, config)
        return
    with pytest.raises(TooMuchDamage, match=f"{skipped} of {seen} .* verify some/shards --deep"):
        check_skipped(skipped, seen, config)
