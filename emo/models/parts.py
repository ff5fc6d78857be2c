"""What the settings of all parts share. Importing this file loads no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shards.configfile import Config

Dropout = Annotated[float, Field(ge=0, lt=1)]


class BranchConfig(Config):
    """Settings of a branch, and what its kind can do.

    Attributes:
        reads_waveform: it hears samples; other audio branches want features.
        gives_states: it gives one vector a token or a frame, which cross-attention reads.
        fits_head: its scores come from a head that is fitted in closed form at every epoch's end,
            so it is trained alone.
    """

    reads_waveform: ClassVar[bool] = False
    gives_states: ClassVar[bool] = True
    fits_head: ClassVar[bool] = False


def check_heads(hidden: int, heads: int) -> None:
    """Raise ValueError where `heads` of attention cannot share a width of `hidden` evenly."""
    if hidden % heads:
        raise ValueError(f"hidden must be a multiple of heads, not {hidden} for {heads}")
