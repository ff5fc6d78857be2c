"""Augmentation while training: the section `data.augment`. Imports no torch.

Nothing of it happens in validation and test. What `augment` of a shard configuration makes is made
when shards are built; this is drawn anew in every epoch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, field_validator

from shards.configfile import Config

Share = Annotated[float, Field(ge=0, le=1)]


class SpecConfig(Config):
    """SpecAugment (Park et al. 2019) on normalised features: bands of bins and frames become 0.

    `frequency_masks` bands of up to `frequency_width` bins, and `time_masks` of up to `time_width`
    frames, but of no more than the share `time_share` of the turn.
    """

    frequency_masks: NonNegativeInt = 2
    frequency_width: NonNegativeInt = 8
    time_masks: NonNegativeInt = 2
    time_width: NonNegativeInt = 25
    time_share: Share = 0.2


class MaskConfig(Config):
    """Stretches of a waveform become silence: `masks` of up to the share `width` of the turn."""

    masks: NonNegativeInt = 1
    width: Share = 0.15


class GainConfig(Config):
    """A waveform is made louder or quieter by a number of decibels drawn from `db`."""

    db: tuple[float, float] = (-6.0, 6.0)
    chance: Share = 1.0

    @field_validator("db")
    @classmethod
    def _ordered(cls, db: tuple[float, float]) -> tuple[float, float]:
        return _in_order(db)


class SpeedConfig(Config):
    """A turn is played at a rate drawn from `rates`; a waveform's pitch moves with it.

    A slowed turn that would be longer than its batch loses its end.
    """

    rates: tuple[float, float] = (0.9, 1.1)
    chance: Share = 1.0

    @field_validator("rates")
    @classmethod
    def _mild(cls, rates: tuple[float, float]) -> tuple[float, float]:
        low, high = _in_order(rates)
        if low < 0.5 or high > 2:
            raise ValueError("rates must lie between 0.5 and 2: mild ones keep the emotion")
        return rates


class MixupConfig(Config):
    """Mixup (Zhang et al. 2018): two turns and their targets become one weighted mean of them.

    The weight is drawn from Beta(`alpha`, `alpha`), and the larger share is the turn's own. `where`
    says what is mixed: the model's `input`, which a model of audio alone allows, or what its last
    layer reads, `hidden` (manifold mixup, Verma et al. 2019), of all modalities with one weight.
    Partners are neighbours in the global batch, and a micro-batch must hold both.
    """

    alpha: float = Field(0.2, gt=0)
    where: Literal["input", "hidden"] = "input"
    chance: Share = 1.0


class AugmentConfig(Config):
    """What is done to training batches, in this order. None leaves a step out."""

    speed: SpeedConfig | None = None
    gain: GainConfig | None = None
    mask: MaskConfig | None = None
    spec: SpecConfig | None = None
    mixup: MixupConfig | None = None

    @property
    def any(self) -> bool:
        """Whether anything is done at all."""
        return any(getattr(self, name) is not None for name in type(self).model_fields)

    @property
    def together(self) -> int:
        """How many neighbours of a global batch one micro-batch must hold."""
        return 1 if self.mixup is None else 2

    def check(self, waveform: bool, sole_audio: bool) -> None:
        """Raise ValueError for a step that the model's input does not allow.

        Args:
            waveform: the audio branch reads the waveform.
            sole_audio: the model reads audio, and nothing else.
        """
        problems = [
            f"{name} belongs to {needs}"
            for name, needs, fits in (
                ("gain", "data.audio=waveform", waveform),
                ("mask", "data.audio=waveform (spec masks features)", waveform),
                ("spec", "features (mask masks waveforms)", not waveform),
            )
            if getattr(self, name) is not None and not fits
        ]
        if self.mixup is not None and self.mixup.where == "input" and not sole_audio:
            problems.append("mixup.where=input needs a model of audio alone: set it to hidden")
        if problems:
            raise ValueError("data.augment: " + "; ".join(problems))


def _in_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower end comes first, not {pair[0]:g} to {pair[1]:g}")
    return pair
