"""How an experiment is trained: its sections `optim` and `train`. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from emo.metrics import selectable
from shards.configfile import Config
from shards.errors import UserError

REST = "rest"  # the group of every parameter that no configured group matches


class GroupConfig(Config):
    """The parameters whose names begin with `match` (whole dotted parts), with a rate of their own.

    `unfreeze_epoch` is the first epoch, counted from 0, in which the group is trained.
    `weight_decay` None means the optimizer's.
    """

    match: str = Field(min_length=1)
    lr: float = Field(gt=0)
    weight_decay: float | None = Field(None, ge=0)
    unfreeze_epoch: int = Field(0, ge=0)


class NewBobConfig(Config):
    """When validation's loss has fallen by less than the share `threshold` since the epoch before,
    the rate is multiplied by `factor`, for good.
    """

    factor: float = Field(0.5, gt=0, lt=1)
    threshold: float = Field(0.0025, ge=0, lt=1)


class OptimConfig(Config):
    """Adam (weight decay as L2 in the gradient, the paper's) or AdamW (decoupled decay).

    For `warmup_steps`, or `warmup_fraction` of all steps, the rate rises linearly to `lr`. Then it
    falls by `schedule`, and would reach `final` times `lr` one step after the last; `newbob` lowers
    it where validation stops getting better (`NewBobConfig`). `clip` bounds
    the norm of the whole gradient; None turns that off. With `decay_vectors` False, biases and
    norms get no weight decay. With `layer_decay` below 1, each layer of a pretrained encoder learns
    at that factor of the rate of the layer above it; the uppermost at that factor of its group's.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    decay_vectors: bool = True
    layer_decay: float = Field(1.0, gt=0, le=1)
    clip: float | None = Field(None, gt=0)
    schedule: Literal["constant", "linear", "cosine", "newbob"] = "constant"
    newbob: NewBobConfig = NewBobConfig()
    warmup_steps: int = Field(0, ge=0)
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    final: float = Field(0.0, ge=0, le=1)
    groups: dict[str, GroupConfig] = Field(default_factory=dict)

    @field_validator("name", mode="before")
    @classmethod
    def _as_in_torch(cls, name: Any) -> Any:
        """torch writes Adam and AdamW."""
        return name.lower() if isinstance(name, str) else name

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must be at least 0 and below 1")
        return betas

    @model_validator(mode="after")
    def _consistent(self) -> OptimConfig:
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("set warmup_steps or warmup_fraction, not both")
        if REST in self.groups:
            raise ValueError(f"the group name {REST!r} is taken: it holds what no group matches")
        prefixes = [group.match for group in self.groups.values()]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("two groups match the same parameters")
        return self


class TrainConfig(Config):
    """How long to train, in which batches, and what to keep.

    `global_batch` is the sum over all processes and accumulation steps, and must be divisible by
    their product. For a context model, both batch sizes count dialogues. `select` names the metric
    (in `emo/metrics.py`) by which validation chooses the checkpoint to evaluate. With
    `checkpoint_steps`, checkpoints are also saved inside epochs; `keep` is how many are kept
    besides the best. With `patience`, training ends after so many epochs without a new best one.
    `average` is the decay of a moving average of the weights (EMA), which validation, test and
    export then use; early on it is shorter, (1 + n) / (10 + n) at step n. `max_minutes` stops the
    run as a preemption does. With `nonfinite: skip`, up to `max_nonfinite` steps whose loss is not
    finite are left out; with `stop`, the first ends the run.
    """

    epochs: PositiveInt = 15
    global_batch: PositiveInt = 64
    accumulation: PositiveInt = 1
    evaluation_batch: PositiveInt = 128
    seed: NonNegativeInt = 1
    select: str = "ua"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    average: float | None = Field(None, gt=0, lt=1)
    patience: PositiveInt | None = None
    checkpoint_steps: PositiveInt | None = None
    keep: int = Field(2, ge=2)
    log_steps: PositiveInt = 10
    max_minutes: PositiveFloat | None = None
    nonfinite: Literal["stop", "skip"] = "stop"
    max_nonfinite: PositiveInt = 10

    @field_validator("select")
    @classmethod
    def _metric_is_known(cls, name: str) -> str:
        return selectable(name)


def check_skipping(train: TrainConfig, strategy: str | None) -> None:
    """Raise UserError for steps to be left out under a strategy that cannot.

    Called again when the launcher has decided the strategy.
    """
    if train.nonfinite == "skip" and strategy is not None and strategy.startswith("zero"):
        raise UserError("train.nonfinite=skip is not to be had under ZeRO: use stop")
