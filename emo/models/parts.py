"""Settings that all parts have in common. Importing this file does not load torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shards.configfile import Config

Dropout = Annotated[float, Field(ge=0, lt=1)]
PoolingName = Literal["mean", "statistics", "attention", "attentive_statistics"]


class LoraConfig(Config):
    """Low-rank adapters beside linear layers of an encoder whose own weights stay as they are.

    `rank` of the two factors, whose product is scaled by `alpha` / `rank`; `dropout` acts on their
    input. `targets` are names of linear layers (None: the feed-forward ones), in `layers` of the
    transformer: all, its upper or its lower half.
    """

    rank: int = Field(16, gt=0)
    alpha: float = Field(32, gt=0)
    dropout: Dropout = 0.0
    targets: tuple[str, ...] | None = Field(None, min_length=1)
    layers: Literal["all", "upper", "lower"] = "all"


class BranchConfig(Config):
    """Settings of a branch, and what its kind can do.

    Attributes:
        reads_waveform: whether it reads the waveform; other audio branches read features.
        gives_states: whether it gives one vector for each token or frame, for cross-attention.
        fits_head: whether its scores come from a head that is fitted in closed form at the end of
            every epoch; such a branch is trained without others.
    """

    reads_waveform: ClassVar[bool] = False
    gives_states: ClassVar[bool] = True
    fits_head: ClassVar[bool] = False


def check_heads(hidden: int, heads: int) -> None:
    """Raise ValueError if the width `hidden` is no multiple of the number of attention heads."""
    if hidden % heads:
        raise ValueError(f"hidden must be a multiple of heads, not {hidden} for {heads}")


def check_tuning(tune: str, frozen_layers: int, lora: LoraConfig | None) -> None:
    """Raise ValueError if an encoder is to be tuned in two ways at once."""
    if tune == "nothing" and frozen_layers:
        raise ValueError("frozen_layers leaves the others to be tuned: set tune, or leave it out")
    if tune != "nothing" and lora is not None:
        raise ValueError(f"lora stands for tuning the encoder: set tune: nothing, not {tune}")
