"""Settings of the losses. Importing this file loads no torch.

A new kind is a configuration here and in `LossConfig`, a file beside this one, and an entry in
`emo.models.losses.objective`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from shards.configfile import Config

WeightRule = Literal["none", "inverse", "root", "effective"]


class AdjustConfig(Config):
    """Class priors in the scores of training: (N_c / N_max)^tau · score + gamma · log π_c.

    N_c is the number of training turns of class c, π_c its share. At prediction the scores are left
    as they are: they are then those of balanced classes. `tau` 0 and `gamma` 1 are logit adjustment
    (Menon et al. 2021), also called balanced softmax (Ren et al. 2020); with `tau` above 0 this is
    the VS loss (Kini et al. 2021).
    """

    tau: float = Field(0.0, ge=0, le=2)
    gamma: float = Field(1.0, ge=0, le=2)


class ContrastiveConfig(Config):
    """Turns of one class attract each other, all others repel: over the whole global batch.

    `weight` is the term's share beside the loss of the scores, `temperature` divides the cosines.
    """

    weight: float = Field(1.0, gt=0)
    temperature: float = Field(0.1, gt=0)


class AnyLossConfig(Config):
    """Settings of all losses.

    `weights` says how much a turn of each class counts, N_c being the number of training turns of
    class c: `inverse` is N / (C·N_c), `root` its square root, `effective` is
    (1 - β) / (1 - β^N_c) with `beta` (None: (N - 1) / N; Cui et al. 2019), each scaled so that the
    weights' mean over the training turns is 1; or a map from every class to its weight, taken as it
    is. Where targets are distributions, `weigh` says what is weighted: each class' term
    (`classes`), the turn as a whole by its expected weight (`rows`), or the distribution, which is
    scaled to sum 1 again (`targets`). `mean` divides a step's loss by its turns (`rows`) or by the
    sum of their weights (`weights`). `scores` is the factor of the scores' loss beside the other
    terms; 0 trains a model's attributes alone.
    """

    weights: WeightRule | dict[str, Annotated[float, Field(ge=0)]] = "none"
    beta: float | None = Field(None, ge=0, lt=1)
    weigh: Literal["classes", "rows", "targets"] = "classes"
    mean: Literal["rows", "weights"] = "rows"
    scores: float = Field(1.0, ge=0)
    adjust: AdjustConfig | None = None
    contrastive: ContrastiveConfig | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> AnyLossConfig:
        if self.beta is not None and self.weights != "effective":
            raise ValueError("beta belongs to weights: effective")
        if self.weights == "none" and (self.weigh != "classes" or self.mean != "rows"):
            raise ValueError("weigh and mean say how class weights act: set weights")
        if isinstance(self.weights, dict) and not any(self.weights.values()):
            raise ValueError("weights: all are 0")
        return self


class CrossEntropyConfig(AnyLossConfig):
    """Cross-entropy to the class, or (with data.targets soft) to the annotators' votes."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class KlConfig(AnyLossConfig):
    """Kullback-Leibler divergence from the target: cross-entropy less the target's own entropy.

    Its gradient is that of cross-entropy; it is 0 where the votes are met exactly.
    """

    kind: Literal["kl"]


class FocalConfig(AnyLossConfig):
    """Cross-entropy times (1 - p)^gamma: what is predicted well counts less (Lin et al. 2017)."""

    kind: Literal["focal"]
    gamma: float = Field(2.0, ge=0)


def _kind_named(given: Any) -> Any:
    return {"kind": "cross_entropy"} | given if isinstance(given, dict) else given


LossConfig = Annotated[
    Annotated[CrossEntropyConfig | KlConfig | FocalConfig, Field(discriminator="kind")],
    BeforeValidator(_kind_named),
]
