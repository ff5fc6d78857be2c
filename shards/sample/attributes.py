"""The sample corpus' attributes: how they are drawn, and how well any model can predict them.

Each of two raters gives valence, arousal and dominance by a normal distribution around the
emotion's mean, rounded and cut to the scale; the release's value is the mean of the two. Given the
hidden emotion this is independent of words, prosody and votes. So the best prediction of a turn by
the evidence E, in the sense of the squared error, is

    E[value | E, kept]  =  Σ_emotion P(emotion | E, kept) · E[value | emotion]

Its correlation with the truth is the best there is. The best CCC is the same number: it is reached
by stretching these predictions around their mean until they vary as much as the truth does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import norm

from shards.corpora.labels import LabelSet
from shards.sample.ceilings import class_given_emotion, emotion_posteriors, read_truth

NAMES = ("valence", "arousal", "dominance")
LOW, HIGH, SPREAD, RATERS = 1, 5, 0.6, 2
MEANS = {
    "anger": (1.8, 4.0, 3.9),
    "frustration": (2.3, 3.0, 3.1),
    "happiness": (4.0, 3.6, 3.2),
    "neutral": (3.0, 2.6, 2.8),
    "sadness": (2.1, 2.1, 2.4),
}


def draw_ratings(emotion: str, rng: np.random.Generator) -> np.ndarray:
    """The raters' values of a turn, float64 [raters, attributes]."""
    return np.clip(np.round(rng.normal(MEANS[emotion], SPREAD, size=(RATERS, 3))), LOW, HIGH)


def rating_given_emotion(emotion: str) -> np.ndarray:
    """P(one rater's value | emotion), float64 [attributes, values from LOW to HIGH]."""
    values = np.arange(LOW, HIGH + 1)
    edges = np.concatenate([[-np.inf], values[:-1] + 0.5, [np.inf]])
    return np.diff(norm.cdf(edges, np.array(MEANS[emotion])[:, None], SPREAD), axis=1)


def moments(emotions: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the release's value given each emotion, float64 [E, attributes] both."""
    values = np.arange(LOW, HIGH + 1)
    table = np.stack([rating_given_emotion(emotion) for emotion in emotions])
    mean = table @ values
    return mean, (table @ values**2 - mean**2) / RATERS


def attribute_ceilings(path: Path, labels: LabelSet) -> dict[str, dict[str, np.ndarray]]:
    """E[value | evidence, the turn is kept in the label set], from a truth file.

    By kind of evidence (`ceilings.KINDS`) and turn id, float64 [attributes], in the order of
    `NAMES`. Raises `TruthError`.
    """
    truth = read_truth(path)
    kept = class_given_emotion(truth.process, labels).sum(axis=1)
    mean, _ = moments(truth.process.emotions)
    result: dict[str, dict[str, np.ndarray]] = {}
    for kind, posteriors in emotion_posteriors(truth).items():
        result[kind] = {}
        for turn, posterior in posteriors.items():
            joint = posterior * kept
            result[kind][turn] = joint @ mean / joint.sum()
    return result


def stretched(best: np.ndarray, variance: float) -> np.ndarray:
    """The predictions with the best CCC: `best` [N], stretched around its mean to `variance`."""
    return best.mean() + (best - best.mean()) * np.sqrt(variance / best.var())
