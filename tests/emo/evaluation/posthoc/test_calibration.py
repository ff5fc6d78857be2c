"""A temperature that is known is found; what it changes and what not."""

import json

import numpy as np
import pytest

from emo.evaluation.posthoc.calibration import HIGHEST, LOWEST, at_temperature, fit_temperature
from emo.metrics import expected_calibration_error


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def drawn(rng, turns=20_000, classes=5):
    """Scores, and labels drawn from the probabilities that they say."""
    scores = rng.normal(size=(turns, classes)) * 2
    return scores, np.array([rng.choice(classes, p=p) for p in softmax(scores)])


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_scores_that_are_too_sure_by_a_factor_get_that_temperature(factor):
    scores, labels = drawn(np.random.default_rng(3))
    said = softmax(scores * factor)
    temperature = fit_temperature(labels, said)
    assert temperature == pytest.approx(factor, rel=0.03)
    after = at_temperature(said, temperature)
    np.testing.assert_allclose(after, softmax(scores * factor / temperature), atol=1e-12)
    assert (after.argmax(1) == said.argmax(1)).all()
    assert expected_calibration_error(labels, after) < 0.02
    if factor == 3.0:
        assert expected_calibration_error(labels, said) > 0.1


def test_there_and_back_again():
    said = softmax(np.random.default_rng(1).normal(size=(50, 4)) * 5)
    np.testing.assert_allclose(at_temperature(at_temperature(said, 2.5), 1 / 2.5), said, atol=1e-12)


def test_certainty_right_and_wrong_stays_within_bounds():
    sure, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert fit_temperature(labels, sure) >= LOWEST
    assert fit_temperature(np.array([1, 2, 0, 1]), sure) == pytest.approx(HIGHEST, rel=0.1)
    assert np.isfinite(at_temperature(sure, LOWEST)).all()


def test_a_run_keeps_its_temperature_and_says_what_it_did(trained_runs):
    for run in trained_runs.values():
        found = json.loads((run / "metrics.json").read_text())
        lines = [
            json.loads(one) for one in (run / "predictions-val.jsonl").read_text().splitlines()
        ]
        labels = np.array([found["classes"].index(line["label"]) for line in lines])
        said = np.array([list(line["probabilities"].values()) for line in lines])
        # At its own temperature there is nothing left to fit, unless a bound was met.
        if LOWEST * 1.1 < found["temperature"] < HIGHEST * 0.9:
            assert fit_temperature(labels, said) == pytest.approx(1.0, abs=0.02)
        before = at_temperature(said, 1 / found["temperature"])
        wanted = expected_calibration_error(labels, before)
        assert found["parts"]["val"]["ece_before"] == pytest.approx(wanted, abs=1e-3)
