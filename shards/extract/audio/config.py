"""Settings of how recordings are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shards.configfile import Config


class AudioConfig(Config):
    """How recordings are read and which are turned away."""

    sample_rate: int = Field(default=22050, ge=4000, le=192000)  # Hz
    min_seconds: float = Field(default=0.05, gt=0)  # a little more than one frame of 1024 samples
    max_seconds: float | None = Field(default=None, gt=0)  # none: long turns are told, not rejected
    silence_dbfs: float = Field(default=-80.0, le=-20)  # what never rises above it is silent
    min_snr: float | None = None  # dB, blind estimate (WADA); none: every recording passes
    low_snr: Literal["flag", "drop"] = "flag"  # what happens to a recording below `min_snr`
