"""A temperature for a trained model's scores, fitted on validation (Guo et al. 2017).

Dividing all scores by one number changes how sure a model says it is and never which class it
chooses. It is fitted after training, kept in the run's `metrics.json`, and used wherever the model
speaks: evaluation, prediction, export. What branches hand on (fusion, vectors) are scores as they
are.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

LOWEST, HIGHEST = 0.05, 20.0  # temperatures outside say that a model knows nothing, or all


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with the highest likelihood of int `labels` [N], from LOWEST to HIGHEST.

    In the inverse temperature the likelihood is concave, so that there is one best.
    """
    log_NC = _log(probabilities)
    rows = np.arange(len(labels))

    def loss(inverse: float) -> float:
        scaled_NC = inverse * log_NC
        return float(np.logaddexp.reduce(scaled_NC, axis=1).sum() - scaled_NC[rows, labels].sum())

    found = minimize_scalar(loss, bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded")
    return 1 / float(found.x)


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """`probabilities` [..., C] as they would be with all scores divided by `temperature`."""
    scaled = _log(probabilities) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, 1e-300))
