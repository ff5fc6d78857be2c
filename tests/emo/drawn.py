"""A predictor of known accuracy, for tests of metrics and of their intervals."""

import numpy as np

CLASSES = ("anger", "frustration", "happiness", "neutral", "sadness")


def drawn(rows, accuracy=0.6, seed=0):
    """Labels and probabilities of a predictor that is right with this probability."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, size=rows, p=[0.1, 0.3, 0.2, 0.25, 0.15])
    probabilities = rng.dirichlet(np.ones(5), size=rows)
    favourite = np.where(rng.random(rows) < accuracy, labels, rng.integers(0, 5, rows))
    probabilities[np.arange(rows), favourite] += 1
    return labels, probabilities / probabilities.sum(1, keepdims=True)
