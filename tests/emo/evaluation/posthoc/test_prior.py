"""The correction to other class shares: Bayes' rule, and what it does to a biased model."""

import numpy as np
import pytest

from emo.evaluation.posthoc.prior import at_prior, prior_ratio
from shards.errors import UserError

CLASSES = ("a", "b", "c")
TRAINED = {"a": 0.7, "b": 0.2, "c": 0.1}


def test_a_posterior_becomes_that_under_the_other_prior():
    rng = np.random.default_rng(0)
    likelihood = rng.random((50, 3))
    prior, other = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])

    def posterior(shares):
        joint = likelihood * shares
        return joint / joint.sum(1, keepdims=True)

    ratio = prior_ratio(dict(zip(CLASSES, 4 * other, strict=True)), TRAINED, CLASSES)
    np.testing.assert_allclose(at_prior(posterior(prior), ratio), posterior(other), rtol=1e-12)
    even = prior_ratio("uniform", TRAINED, CLASSES)
    np.testing.assert_allclose(
        at_prior(posterior(prior), even), posterior(np.ones(3) / 3), rtol=1e-12
    )


def test_as_trained_changes_nothing():
    assert prior_ratio("trained", TRAINED, CLASSES) is None
    given = np.array([[0.5, 0.3, 0.2]])
    assert at_prior(given, None) is given


def test_a_class_that_is_missing_is_named():
    with pytest.raises(UserError, match=r"each class once \(a, b, c\): c, d is missing or unknown"):
        prior_ratio({"a": 1, "b": 1, "d": 1}, TRAINED, CLASSES)
