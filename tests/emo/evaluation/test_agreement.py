"""Agreement with annotators, by hand-made votes."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from emo.evaluation.agreement import agreement, human_ceiling, jensen_shannon
from shards.corpora.labels import label_set

FIVE = label_set("five")  # anger, frustration, happiness, neutral, sadness


def test_two_of_three_agree():
    # Annotators 1 and 2 each face one ally and one dissenter: the others are divided. Annotator 3
    # faces two who agree, and misses.
    assert human_ceiling([[["ang"], ["ang"], ["fru"]]], FIVE) == {"wa": 0.0, "n": 1}


def test_all_agree_and_excited_counts_as_happy():
    assert human_ceiling([[["hap"], ["exc"], ["hap"]]], FIVE) == {"wa": 1.0, "n": 3}


def test_divided_votes_count_in_parts():
    found = human_ceiling([[["neu", "fru"], ["neu"], ["neu"]]], FIVE)
    # 1: the others agree on neutral, he gave it half. 2 and 3: neutral 1.5 against frustration 0.5.
    assert found == {"wa": pytest.approx((0.5 + 1 + 1) / 3), "n": 3}


def test_what_lies_outside_the_set_is_no_truth():
    assert human_ceiling([[["sur"], ["sur"], ["neu"]], [["neu"]]], FIVE) == {"wa": None, "n": 0}


def test_jensen_shannon_is_zero_for_the_votes_themselves_and_skips_turns_without_votes():
    votes = [[["ang"], ["ang"], ["fru"]], [["sur"], ["oth"], ["sur"]]]
    table = np.array([[2 / 3, 1 / 3, 0, 0, 0], [0.2] * 5])
    found = agreement(votes, table, FIVE)
    assert found["jensen_shannon"] == pytest.approx(0, abs=1e-12)
    assert found["jensen_shannon_n"] == 1
    certain = agreement(votes[:1], np.array([[0, 0, 0, 0, 1.0]]), FIVE)
    assert certain["jensen_shannon"] == pytest.approx(1)  # nothing in common: one bit


def test_jensen_shannon_is_scipys_squared():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=20), rng.dirichlet(np.ones(5), size=20)
    p[0] = [1, 0, 0, 0, 0]
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(jensen_shannon(p, q), expected, atol=1e-12)
    np.testing.assert_allclose(jensen_shannon(np.eye(5), np.eye(5)[::-1])[[0, 2]], [1, 0])
    assert np.isnan(jensen_shannon(np.zeros((1, 5)), q[:1])).all()
