"""Other class shares than those of training: probabilities corrected after the fact.

By Bayes' rule a posterior under one prior becomes that under another by multiplying it with the
ratio of the two (Saerens et al. 2002). It needs no training, but knowledge of the shares where the
model is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emo.evaluation.config import PriorSpec
from shards.errors import UserError, suggestion

FLOOR = 1e-12  # of a share: its logarithm stays finite


def prior_ratio(
    spec: PriorSpec, trained: Mapping[str, float], classes: Sequence[str]
) -> np.ndarray | None:
    """The factor of each class' probability, float64 [C]; None where nothing is corrected.

    Args:
        trained: the shares that the model's probabilities assume (`run.json`, "loss", "prior").

    Raises:
        UserError: `spec` is a map that does not name each class.
    """
    if spec == "trained":
        return None
    if spec == "uniform":
        wanted = np.full(len(classes), 1 / len(classes))
    else:
        wrong = sorted(set(spec) ^ set(classes))
        if wrong:
            raise UserError(
                f"evaluation.prior must name each class once ({', '.join(classes)}): "
                f"{', '.join(wrong)} is missing or unknown{suggestion(wrong[0], classes)}"
            )
        wanted = np.array([float(spec[name]) for name in classes])
        wanted /= wanted.sum()
    assumed = np.maximum([trained[name] for name in classes], FLOOR)
    return wanted / assumed


def at_prior(probabilities: np.ndarray, ratio_C: np.ndarray | None) -> np.ndarray:
    """`probabilities` [..., C] times `ratio_C`, scaled to sum to 1 again; None changes nothing."""
    if ratio_C is None:
        return probabilities
    scaled = probabilities * ratio_C
    return scaled / scaled.sum(axis=-1, keepdims=True)
