"""From a model's scores to probabilities: the fitted temperature, and the class shares assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emo.evaluation.config import PriorSpec
from emo.evaluation.posthoc.prior import at_prior, prior_ratio
from shards.errors import UserError


class CannotPredict(UserError):
    """The input does not fit what the model reads."""


class Numbers(NamedTuple):
    """What is predicted of one input, by name: `attributes` are on the corpus' scale."""

    probabilities: dict[str, float]
    attributes: dict[str, float]


class Probabilities:
    """Scores [B, C] to probabilities, as evaluation computes them.

    Args:
        results: `temperature` and `prior` of the evaluation; what is missing has not been fitted.
        trained: the class shares that the model was trained on; None if it did not record them.
    """

    def __init__(
        self,
        classes: Sequence[str],
        results: Mapping[str, Any],
        trained: Mapping[str, float] | None,
    ) -> None:
        self.classes, self._trained = list(classes), trained
        self.temperature = float(results.get("temperature", 1.0))
        self.assume(results.get("prior", "trained"))

    def assume(self, prior: PriorSpec) -> None:
        """Correct all probabilities from now on to these class shares.

        Raises:
            CannotPredict: the model does not say which shares it was trained on: it is older.
            UserError: a map that does not name each class.
        """
        if self._trained is None and prior != "trained":
            raise CannotPredict(
                "this model is of an older version, which did not record the class shares of its "
                "training: its probabilities cannot be corrected to others"
            )
        self.ratio_C = prior_ratio(prior, self._trained or {}, self.classes)

    def __call__(self, scores_BC: Tensor) -> np.ndarray:
        """float64 [B, C]."""
        scores_BC = scores_BC.double() / self.temperature
        return at_prior(torch.softmax(scores_BC, -1).cpu().numpy(), self.ratio_C)

    def named(self, probabilities: np.ndarray) -> dict[str, float]:
        """Probabilities [C] by the classes' names."""
        return dict(zip(self.classes, probabilities.tolist(), strict=True))
