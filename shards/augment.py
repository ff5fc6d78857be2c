"""The paper's four augmentations of a waveform: noise, pitch, stretch, shift."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from shards.configfile import Config


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("write a range as [low, high]")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class AugmentConfig(Config):
    """Which variants are made beside the clean one, and the ranges they are drawn from."""

    variants: tuple[Literal["noise", "pitch", "stretch", "shift"], ...] = (
        "noise",
        "pitch",
        "stretch",
        "shift",
    )
    noise_snr: Range = (10.0, 30.0)  # dB between the recording's power and the noise's
    pitch_semitones: Range = (-2.0, 2.0)
    stretch_rate: Range = (0.85, 1.15)  # above 1 is faster, so shorter
    shift_share: Range = Field(default=(0.1, 0.5), description="share of the length, circular")

    @model_validator(mode="after")
    def _sensible(self) -> AugmentConfig:
        if len(set(self.variants)) < len(self.variants):
            raise ValueError("variants: name each at most once")
        if self.pitch_semitones[0] < -12 or self.pitch_semitones[1] > 12:
            raise ValueError("pitch_semitones: stay within an octave, -12 to 12")
        if self.stretch_rate[0] < 0.5 or self.stretch_rate[1] > 2:
            raise ValueError("stretch_rate: stay within 0.5 to 2")
        if self.shift_share[0] < 0 or self.shift_share[1] > 1:
            raise ValueError("shift_share: stay within 0 to 1")
        return self
