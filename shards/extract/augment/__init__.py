"""Augmented variants of a waveform: `VARIANTS` lists them, and `variants` makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import AfterValidator, create_model, model_validator

from shards.configfile import Config
from shards.extract.augment.noise import NOISE
from shards.extract.augment.pitch import PITCH
from shards.extract.augment.reverb import REVERB
from shards.extract.augment.shift import SHIFT
from shards.extract.augment.stretch import STRETCH
from shards.extract.augment.variant import CLEAN, Clean, Variant

# Every augmentation. To add one, write its file and name its `Variant` here.
VARIANTS: dict[str, Variant] = {one.name: one for one in (NOISE, PITCH, STRETCH, SHIFT, REVERB)}

# The paper's four: the default for building and training. This is not the list above, because an
# augmentation that is added later must not change the meaning of existing configurations.
PAPER_VARIANTS = ("noise", "pitch", "stretch", "shift")

if TYPE_CHECKING:
    VariantName = str
    SampleVariant = str
else:
    VariantName = Literal[tuple(VARIANTS)]
    SampleVariant = Literal[(CLEAN, *VARIANTS)]


class _Chosen(Config):
    variants: tuple[VariantName, ...] = PAPER_VARIANTS


if TYPE_CHECKING:

    class _Settings(_Chosen):
        pass

else:
    _Settings = create_model(
        "_Settings",
        __base__=_Chosen,
        **{
            one.setting: (
                Annotated[tuple[float, float], AfterValidator(one.check_range)],
                one.default,
            )
            for one in VARIANTS.values()
        },
    )


class AugmentConfig(_Settings):
    """Which variants are made besides the clean one, and the ranges that are drawn from.

    Each augmentation in `VARIANTS` has its range here, under its `setting`.
    """

    @model_validator(mode="after")
    def _each_once(self) -> AugmentConfig:
        if len(set(self.variants)) < len(self.variants):
            raise ValueError("variants: name each at most once")
        return self


def variants(
    wave: np.ndarray, rate: int, config: AugmentConfig, seed: int, utterance_id: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each configured variant with its waveform, float32 [samples]; the clean one is `wave`.

    The random numbers depend on (seed, utterance id, variant) only, not on the order of utterances
    or on the other variants.

    Args:
        wave: float32 [samples] at `rate` (Hz).
    """
    clean = Clean(wave, rate)
    for name in config.variants:
        variant = VARIANTS[name]
        rng = variant_rng(seed, utterance_id, name)
        drawn = rng.uniform(*getattr(config, variant.setting))
        yield name, variant.make(clean, drawn, rng)


def variant_rng(seed: int, utterance_id: str, variant: str) -> np.random.Generator:
    """The generator for one variant of one utterance."""
    # SHA-256, not `hash`, which gives a string another value in every process.
    name = json.dumps([seed, utterance_id, variant]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest(), "big"))
