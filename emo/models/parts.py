"""Settings that all parts have in common. Importing this file does not load torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shards.configfile import Config

Dropout = Annotated[float, Field(ge=0, lt=1)]
PoolingName = Literal["mean", "statistics", "attention", "attentive_statistics"]


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
