"""Class weights and priors, from the numbers of training turns in each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emo.models.branch import ModelError
from emo.models.losses.config import AnyLossConfig
from shards.errors import suggestion


def inverse(counts_C: np.ndarray, beta: float | None) -> np.ndarray:
    """N / (C·N_c): every class adds as much to the loss as any other."""
    return counts_C.sum() / (len(counts_C) * counts_C)


def root(counts_C: np.ndarray, beta: float | None) -> np.ndarray:
    """The square root of `inverse`: half the way there."""
    return np.sqrt(inverse(counts_C, beta))


def effective(counts_C: np.ndarray, beta: float | None) -> np.ndarray:
    """(1 - β) / (1 - β^N_c), the inverse of the effective number of samples (Cui et al. 2019)."""
    beta = (counts_C.sum() - 1) / counts_C.sum() if beta is None else beta
    return (1 - beta) / (1 - beta**counts_C)


# By the name in the configuration: (turns of each class, float64 [C]; β) to weights, float64 [C].
RULES: dict[str, Callable[[np.ndarray, float | None], np.ndarray]] = {
    "inverse": inverse,
    "root": root,
    "effective": effective,
}


def class_weights(
    config: AnyLossConfig, counts_C: np.ndarray, classes: Sequence[str]
) -> np.ndarray | None:
    """The weight of each class, float64 [C]; None where all classes count alike.

    Args:
        counts_C: training turns of each class, float64; of distributions, the sums of shares.

    Raises:
        ModelError: `weights` names other classes than `classes`, or a class has no training turn.
    """
    if isinstance(config.weights, dict):
        return _by_hand(config.weights, classes)
    if config.weights == "none":
        return None
    check_counts(counts_C, classes, "loss.weights")
    weights_C = RULES[config.weights](counts_C, config.beta)
    return weights_C * (counts_C.sum() / (weights_C * counts_C).sum())


def taught_prior(config: AnyLossConfig, counts_C: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The class shares that a model's probabilities assume after training on `counts_C` turns.

    Those of the training turns, times the class weights; logit adjustment takes the shares out
    again, by `gamma`. Float64 [C], summing to 1.
    """
    taught_C = counts_C / counts_C.sum()
    weights_C = class_weights(config, counts_C, classes)
    if config.adjust is not None:
        check_counts(counts_C, classes, "loss.adjust")
        taught_C = taught_C ** (1 - config.adjust.gamma)
    if weights_C is not None:
        taught_C = taught_C * weights_C
    return taught_C / taught_C.sum()


def check_counts(counts_C: np.ndarray, classes: Sequence[str], setting: str) -> None:
    """Raise ModelError for a class without any training turn: its weight would be infinite."""
    empty = [name for name, count in zip(classes, counts_C, strict=True) if count <= 0]
    if empty:
        raise ModelError(
            f"{setting} needs training turns of every class, and there is none of "
            f"{', '.join(empty)}: take it out of the label set, or weigh by hand with a map"
        )


def _by_hand(weights: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    unknown = [f"{name}{suggestion(name, classes)}" for name in weights if name not in classes]
    missing = [name for name in classes if name not in weights]
    if unknown or missing:
        raise ModelError(
            "loss.weights must name each class once: "
            + "; ".join(
                f"{title} {', '.join(names)}"
                for title, names in (("there is no", unknown), ("missing", missing))
                if names
            )
        )
    return np.array([float(weights[name]) for name in classes])
