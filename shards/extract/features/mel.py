"""The features logmel and mfcc. The MFCC are computed from the log-mel spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shards.extract.features.spec import Extract, Feature
from shards.extract.spectrum import LogMel, SpectrumConfig, cepstrum


def _logmel(config: SpectrumConfig, sample_rate: int) -> Extract:
    logmel = LogMel(config, sample_rate)
    return lambda wave, made: logmel(wave)


def _mfcc(config: SpectrumConfig, sample_rate: int) -> Extract:
    def extract(wave: np.ndarray, made: Mapping[str, np.ndarray]) -> np.ndarray:
        return cepstrum(made[LOGMEL.name], config.coefficients)

    return extract


def _check_mfcc(config: SpectrumConfig) -> None:
    if config.coefficients > config.mels:
        raise ValueError("coefficients: there are at most as many as mels")


LOGMEL = Feature(
    name="logmel",
    dtype=np.dtype("<f2"),
    prepare=_logmel,
    length="frames",
    width=lambda config: config.mels,
)
MFCC = Feature(
    name="mfcc",
    dtype=np.dtype("<f2"),
    prepare=_mfcc,
    length="frames",
    width=lambda config: config.coefficients,
    needs=(LOGMEL.name,),
    check=_check_mfcc,
)
