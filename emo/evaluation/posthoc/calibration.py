"""A temperature for a trained model's scores, fitted on validation (Guo et al. 2017).

Dividing all scores by one number changes the model's confidence, but never the class it chooses.
The temperature is fitted after training, stored in the run's `metrics.json`, and applied to all
probabilities that are reported: in evaluation, prediction and export. A fusion and `emo features`
read the scores of branches without it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

LOWEST, HIGHEST = 0.05, 20.0  # beyond them one class is all but certain, or all are equally likely


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature, from LOWEST to HIGHEST, that makes int `labels` [N] most likely.

    `probabilities` are float64 [N, C]. The log-likelihood is concave in the inverse temperature, so
    there is one maximum.
    """
    log_NC = _log(probabilities)
    rows = np.arange(len(labels))

    def loss(inverse: float) -> float:
        scaled_NC = inverse * log_NC
        return float(np.logaddexp.reduce(scaled_NC, axis=1).sum() - scaled_NC[rows, labels].sum())

    best = minimize_scalar(loss, bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded")
    return 1 / float(best.x)


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """`probabilities` [..., C] as they would be with all scores divided by `temperature`."""
    scaled = _log(probabilities) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def _log(probabilities: np.ndarray) -> np.ndarray:
    # A probability underflows to 0 where a model is certain; with a floor its log stays finite.
    return np.log(np.maximum(probabilities, 1e-300))
