"""How a trained model is evaluated: the section `evaluation` of an experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shards.configfile import Config

PriorSpec = Literal["trained", "uniform"] | dict[str, Annotated[float, Field(gt=0)]]


class EvaluationConfig(Config):
    """What validation, test and prediction assume.

    `prior` is the share of each class where the model is used: as in its training (`trained`), all
    alike (`uniform`), or a map from every class to its share. Probabilities are corrected to it,
    also those that validation selects by; the temperature is fitted before.
    """

    prior: PriorSpec = "trained"
