"""Features of a waveform: `FEATURES` lists the kinds, and `Extractor` computes them.

Building shards and predicting from a recording both use this one definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from shards.configfile import Config
from shards.extract.features.lowlevel import LLD
from shards.extract.features.mel import LOGMEL, MFCC
from shards.extract.features.spec import Feature
from shards.extract.features.waveform import WAVEFORM
from shards.extract.spectrum import SpectrumConfig

# Every kind of audio feature; a kind that another one needs stands before it. To add one, write its
# file and name its `Feature` here.
FEATURES: dict[str, Feature] = {one.name: one for one in (LOGMEL, MFCC, LLD, WAVEFORM)}

if TYPE_CHECKING:
    FeatureName = str
else:
    FeatureName = Literal[tuple(FEATURES)]


class _Kinds(Config):
    kinds: tuple[FeatureName, ...] = Field(default=(LOGMEL.name, MFCC.name), min_length=1)


if TYPE_CHECKING:

    class _Settings(SpectrumConfig, _Kinds):
        pass

else:
    # A kind with settings of its own has a section of `features:`, made from the list above.
    _Settings = create_model(
        "_Settings",
        __base__=(SpectrumConfig, _Kinds),  # pydantic puts the fields of the last one first
        **{
            one.section: (one.settings, one.settings())
            for one in FEATURES.values()
            if one.section is not None
        },
    )


class FeatureConfig(_Settings):
    """Which features are written (`kinds`), and the analysis behind them.

    Its other keys are those of `SpectrumConfig`, and a section for each kind that has settings of
    its own, such as `lowlevel`.
    """

    @model_validator(mode="after")
    def _fits_the_kinds(self) -> FeatureConfig:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: name each at most once")
        for kind in self.kinds:
            FEATURES[kind].check(self.of(FEATURES[kind]))
        return self

    @model_serializer(mode="wrap")
    def _used_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings that no chosen kind uses: they must not change a dataset's digest."""
        settings: dict[str, Any] = handler(self)
        for one in FEATURES.values():
            if one.section is not None and one.name not in self.kinds:
                settings.pop(one.section, None)
        if not any(FEATURES[kind].shared for kind in self.kinds):
            for name in SpectrumConfig.model_fields:
                settings.pop(name, None)
        return settings

    def of(self, feature: Feature) -> Any:
        """The settings of `feature`: its own section if it has one, else the shared ones."""
        return self if feature.section is None else getattr(self, feature.section)


class Extractor:
    """Waveform -> the configured features, by name; `FEATURES` says what each of them is."""

    def __init__(self, config: FeatureConfig, sample_rate: int) -> None:
        """Prepare for waveforms at `sample_rate` (Hz).

        Raises:
            FeatureError: the settings do not fit the sampling rate.
        """
        self.config = config
        self._extract = {
            name: FEATURES[name].prepare(config.of(FEATURES[name]), sample_rate)
            for name in with_needs(config.kinds)
        }

    def __call__(self, wave: np.ndarray, clean: bool = True) -> dict[str, np.ndarray]:
        """The configured features of `wave`, float32 [samples], in the order of `kinds`.

        For a variant (`clean` is False), without features that exist for clean turns only.
        """
        features: dict[str, np.ndarray] = {}
        for name, extract in self._extract.items():
            if clean or not FEATURES[name].clean_only:
                features[name] = extract(wave, features)
        return {kind: features[kind] for kind in self.config.kinds if kind in features}


def with_needs(kinds: tuple[str, ...]) -> list[str]:
    """`kinds` and all kinds that they need, in an order in which they can be computed."""
    wanted = set(kinds)
    # Backwards, so that the needs of a needed kind are found too.
    for one in reversed(FEATURES.values()):
        if one.name in wanted:
            wanted |= set(one.needs)
    return [name for name in FEATURES if name in wanted]
