"""Intervals and standard errors against known answers."""

import time

import numpy as np
import pytest

from emo.evaluation.uncertainty import bootstrap, paired_difference
from emo.metrics import OF_CONFUSION, evaluate
from tests.emo.drawn import CLASSES, drawn


def test_row_bootstrap_equals_resampling_rows_one_by_one():
    labels, probabilities = drawn(300)
    predicted = probabilities.argmax(1)
    rng = np.random.default_rng(1)
    slow = {name: [] for name in OF_CONFUSION}
    for _ in range(600):
        rows = rng.integers(0, 300, 300)
        result = evaluate(labels[rows], probabilities[rows], CLASSES)
        for name, values in slow.items():
            values.append(result[name])
    for name, (low, high) in bootstrap(labels, predicted, 5).items():
        expected = np.quantile(slow[name], (0.025, 0.975))
        assert (low, high) == pytest.approx(expected, abs=0.012)


def test_ten_thousand_resamples_take_less_than_a_second_and_repeat():
    labels, probabilities = drawn(1000)
    predicted, groups = probabilities.argmax(1), np.arange(1000) // 7
    start = time.perf_counter()
    by_row = bootstrap(labels, predicted, 5, seed=4)
    by_group = bootstrap(labels, predicted, 5, groups=groups, seed=4)
    assert time.perf_counter() - start < 2
    assert by_row == bootstrap(labels, predicted, 5, seed=4)
    assert by_row != bootstrap(labels, predicted, 5, seed=5)
    for name, (low, high) in by_group.items():
        assert 0 < high - low < 0.15
        assert low < by_row[name][1]


def test_bootstrap_by_groups_is_wider_where_groups_fail_together():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(60) < 0.5, 10)
    labels = np.zeros(600, int)
    predicted = np.where(right, 0, 1)
    groups = np.repeat([f"dialogue-{index}" for index in range(60)], 10)
    low, high = bootstrap(labels, predicted, 2)["wa"]
    low_g, high_g = bootstrap(labels, predicted, 2, groups=groups)["wa"]
    assert (high_g - low_g) / (high - low) == pytest.approx(10**0.5, rel=0.15)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        predicted = (rng.random(400) >= 0.7).astype(int)  # class 0 is right, with chance 0.7
        low, high = bootstrap(np.zeros(400, int), predicted, 2, resamples=1000, seed=seed)["wa"]
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_paired_difference_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    a, b = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 1, 1, 1, 1, 0])
    delta = np.array([0, 1, 1, 0, 0, 0])
    result = paired_difference(labels, a, b)
    assert result["difference"] == pytest.approx(2 / 6)
    assert result["se"] == pytest.approx(delta.std(ddof=1) / 6**0.5)
    low, high = result["interval"]
    assert (low + high) / 2 == pytest.approx(2 / 6)
    assert paired_difference(labels, a, a) == {"difference": 0, "se": 0, "interval": (0, 0)}


def test_paired_standard_error_by_groups_counts_copies_once():
    labels, probabilities = drawn(80, 0.7)
    _, other = drawn(80, 0.4)
    a, b = probabilities.argmax(1), other.argmax(1)
    once = paired_difference(labels, a, b)
    copies = [np.repeat(x, 5) for x in (labels, a, b)]
    grouped = paired_difference(*copies, groups=np.repeat(np.arange(80), 5))
    assert grouped["se"] == pytest.approx(once["se"])
    assert paired_difference(*copies)["se"] == pytest.approx(once["se"] / 5**0.5, rel=0.02)
