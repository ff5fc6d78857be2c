"""Settings of the attribute head. Importing this file does not load torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from emo.models.parts import Dropout
from shards.configfile import Config
from shards.errors import suggestion


class AttributesConfig(Config):
    """A head that predicts attributes from what the last layer of the classes reads.

    `names` are attributes of the dataset. Each adds `weight` times (1 - CCC) to the loss, the CCC
    (concordance correlation) being that of the whole global batch; `weights` gives some of them
    another factor. `loss.scores` is the factor of the classes: 0 trains the attributes alone.
    """

    names: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(1.0, gt=0)
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    dropout: Dropout = 0.0

    @model_validator(mode="after")
    def _weights_name_them(self) -> AttributesConfig:
        if len(set(self.names)) < len(self.names):
            raise ValueError("names has an attribute twice")
        for name in self.weights:
            if name not in self.names:
                raise ValueError(f"weights names {name!r}{suggestion(name, self.names)}")
        if not any(self.factors):
            raise ValueError("weights: all are 0")
        return self

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of each attribute's term, in the order of `names`."""
        return tuple(self.weights.get(name, self.weight) for name in self.names)
