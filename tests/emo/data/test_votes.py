"""Votes as targets: primary shares by hand, and what annotation dropout leaves."""

import numpy as np
import pytest

from emo.data.config import AnnotationDropout
from emo.data.votes import VoteTable, uniform, vote_target
from shards.corpora.labels import label_set
from shards.errors import UserError

FOUR = label_set("four")  # anger, happiness, neutral, sadness
VOTES = [
    [("neu",), ("neu",), ("ang",)],
    [("neu",), ("neu",)],
    [],
    [("ang", "neu"), ("sad",), ("fru",)],
    [("hap", "neu")] * 3,
]


def table(share=0.5, classes=("neutral", "happiness"), seed=3):
    return VoteTable(VOTES, FOUR, None, AnnotationDropout(share=share, classes=classes), seed)


def full_targets():
    return np.array([vote_target(v, FOUR, None) if v else [0, 1, 0, 0] for v in VOTES], np.float32)


def test_the_first_emotion_of_an_annotator_has_the_primary_share():
    votes = [("ang", "neu"), ("sad",), ("hap", "neu", "fru"), ("fru",)]
    # anger .8, happiness .8, neutral .2 + .1, sadness 1; of frustration nothing is in the set.
    expected = np.array([0.8, 0.8, 0.3, 1.0]) / 2.9
    np.testing.assert_allclose(vote_target(votes, FOUR, 0.8), expected, rtol=1e-12)
    alike = vote_target(votes, FOUR, None)
    np.testing.assert_allclose(alike, np.array([1 / 2, 1 / 3, 5 / 6, 1]) / (8 / 3), rtol=1e-12)
    assert vote_target([("fru",)], FOUR, 0.9) is None
    assert vote_target([], FOUR, 0.9) is None


def test_only_frequent_annotations_are_dropped_in_their_share():
    one = VoteTable([[("neu",)] * 6 + [("ang",)] * 4], FOUR, None,
                    AnnotationDropout(share=0.2, classes=("neutral",)), 1)  # fmt: skip
    whole = np.array([[0.4, 0.0, 0.6, 0.0]], np.float32)
    rows = np.zeros(1, np.int64)
    found = np.stack([one.targets(rows, epoch, whole)[0] for epoch in range(4000)])
    # Of n neutral votes that are kept, anger's share is 4 / (4 + n).
    kept = np.round(4 / found[:, 0] - 4).astype(int)
    assert not found[:, [1, 3]].any()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert abs(kept.mean() - 6 * 0.8) < 0.06  # its standard error is 0.015
    assert kept.min() < 3


def test_targets_depend_on_seed_epoch_and_row_alone():
    rows, targets = np.array([4, -1, 0, 2, 1, 3]), full_targets()
    given = targets[rows]
    found = table().targets(rows, 5, given)
    assert found.dtype == np.float32
    for place, row in enumerate(rows.tolist()):
        alone = table().targets(np.array([row]), 5, given[[place]])
        assert alone[0].tolist() == found[place].tolist()
    epochs = {table().targets(rows, epoch, given).tobytes() for epoch in range(12)}
    seeds = {table(seed=seed).targets(rows, 5, given).tobytes() for seed in range(12)}
    assert len(epochs) == 3  # of the first row, which alone has something to drop
    assert len(seeds) == 3


def test_what_would_lose_all_its_votes_keeps_them():
    targets = full_targets()
    for epoch in range(50):
        found = table(share=0.99).targets(np.arange(5), epoch, targets)
        assert found[[1, 2, 4]].tolist() == targets[[1, 2, 4]].tolist()
        assert found[3].tolist() == targets[3].tolist()  # anger with neutral is no frequent one
        assert found[0].tolist() in ([1, 0, 0, 0], targets[0].tolist(), [0.5, 0, 0.5, 0])


def test_the_draws_are_even():
    drawn = np.array([uniform(1, epoch, row, 3) for epoch in range(60) for row in range(60)])
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(np.histogram(drawn, 10, (0, 1))[0] / drawn.size - 0.1).max() < 0.01
    for epoch_like, row_like in ((drawn[:-60], drawn[60:]), (drawn[:-1], drawn[1:])):
        assert abs(np.corrcoef(epoch_like.ravel(), row_like.ravel())[0, 1]) < 0.03


def test_an_unknown_class_is_named():
    with pytest.raises(UserError, match=r"no class neutrl: did you mean 'neutral'"):
        table(classes=("neutrl",))
