import numpy as np
import pytest

from emo.evaluation.attributes.scores import in_words, mean_ccc, of_moments, scores


def test_known_answers():
    y = np.arange(5.0)
    found = scores(y + 1, y)
    assert found["ccc"] == pytest.approx(4 / 5)
    assert found["pearson"] == pytest.approx(1)
    assert found["rmse"] == pytest.approx(1)
    assert found["n"] == 5
    assert scores(4 - y, y)["pearson"] == pytest.approx(-1)
    flat = scores(np.full(5, 2.0), y)
    assert (flat["ccc"], flat["pearson"]) == (0, 0)
    assert flat["rmse"] == pytest.approx(np.sqrt(2))


def test_are_numpys_and_do_not_mind_large_numbers():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 1, 200) + 1e6, rng.normal(3, 1, 200) + 1e6
    found = scores(x, y, resamples=0)
    assert "interval_95" not in found
    assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    assert found["rmse"] == pytest.approx(np.sqrt(((x - y) ** 2).mean()), abs=1e-9)


def test_turns_without_the_attribute_are_left_out_and_too_few_have_no_score():
    y = np.array([1.0, np.nan, 3.0, np.nan, 2.0])
    x = np.array([1.0, 99.0, 3.0, -99.0, 2.0])
    assert scores(x, y)["ccc"] == pytest.approx(1)
    assert scores(x, y)["n"] == 3
    nothing = scores(x, np.full(5, np.nan))
    assert nothing["ccc"] is None
    assert mean_ccc({"a": scores(x, y), "b": nothing}) == pytest.approx(1)
    assert mean_ccc({"b": nothing}) is None
    assert in_words({"a": scores(x, y), "b": nothing}) == "CCC a 1.000"


def test_intervals_are_those_of_turns_drawn_again():
    rng = np.random.default_rng(1)
    y = rng.normal(size=120)
    x = 0.7 * y + rng.normal(0, 0.5, 120)
    low, high = scores(x, y, resamples=4000)["interval_95"]["ccc"]
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 120, 120)
        a, b = x[rows], y[rows]
        sums = np.array([120, a.sum(), b.sum(), a @ a, b @ b, a @ b])
        drawn.append(float(of_moments(sums)["ccc"]))
    assert low == pytest.approx(np.quantile(drawn, 0.025), abs=0.015)
    assert high == pytest.approx(np.quantile(drawn, 0.975), abs=0.015)
