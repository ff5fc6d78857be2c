"""Log-mel spectrogram and MFCC of a waveform: the only definition, used again at prediction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shards.configfile import Config


class FeatureConfig(Config):
    """Which features are written, and the analysis behind them."""

    kinds: tuple[Literal["logmel", "mfcc"], ...] = Field(default=("logmel", "mfcc"), min_length=1)
    n_fft: int = Field(default=1024, ge=64, le=16384)  # samples a frame (Hann window)
    hop: int = Field(default=256, ge=16)  # samples between frames
    mels: int = Field(default=128, ge=8, le=512)
    coefficients: int = Field(default=40, ge=1)  # of the MFCC
    fmin: float = Field(default=0.0, ge=0)  # Hz
    fmax: float | None = Field(default=None, gt=0)  # Hz; none: half the sampling rate

    @model_validator(mode="after")
    def _sensible(self) -> FeatureConfig:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: name each at most once")
        if self.n_fft % 2:
            raise ValueError("n_fft: must be even")
        if self.hop > self.n_fft:
            raise ValueError("hop: must not exceed n_fft, or samples between frames are lost")
        if self.coefficients > self.mels:
            raise ValueError("coefficients: there are at most as many as mels")
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError("fmax: must lie above fmin")
        return self
