"""What is made of a waveform: log-mel, MFCC, … The only definition, used again at prediction."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from shards.configfile import Config
from shards.errors import UserError
from shards.extract.lowlevel import KIND as LLD
from shards.extract.lowlevel import LowLevel, LowLevelConfig
from shards.extract.waveform import KIND as WAVEFORM
from shards.extract.waveform import quantise

FLOOR = 1e-10  # power below which everything is -100 dB


class FeatureConfig(Config):
    """Which features are written, and the analysis behind them."""

    kinds: tuple[Literal["logmel", "mfcc", "lld", "waveform"], ...] = Field(
        default=("logmel", "mfcc"), min_length=1
    )
    n_fft: int = Field(default=1024, ge=64, le=16384)  # samples a frame (Hann window)
    hop: int = Field(default=256, ge=16)  # samples between frames
    mels: int = Field(default=128, ge=8, le=512)
    coefficients: int = Field(default=40, ge=1)  # of the MFCC
    fmin: float = Field(default=0.0, ge=0)  # Hz
    fmax: float | None = Field(default=None, gt=0)  # Hz; none: half the sampling rate
    lowlevel: LowLevelConfig = LowLevelConfig()  # the kind lld, made of clean turns alone

    @model_validator(mode="after")
    def _sensible(self) -> FeatureConfig:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: name each at most once")
        if self.n_fft % 2:
            raise ValueError("n_fft: must be even")
        if self.hop > self.n_fft:
            raise ValueError("hop: must not exceed n_fft, or samples between frames are lost")
        if "mfcc" in self.kinds and self.coefficients > self.mels:
            raise ValueError("coefficients: there are at most as many as mels")
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError("fmax: must lie above fmin")
        return self

    @model_serializer(mode="wrap")
    def _settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without settings that nothing is made by: they must not tell two datasets apart."""
        settings: dict[str, Any] = handler(self)
        if LLD not in self.kinds:
            settings.pop("lowlevel", None)
        if self.kinds == (WAVEFORM,):
            return {"kinds": settings["kinds"]}
        return settings


class FeatureError(UserError):
    """Feature settings that do not fit the sampling rate."""


class Extractor:
    """Waveform -> {"logmel": float32 [frames, mels] in dB, "mfcc": float32 [frames, coefficients]}.

    And where they are asked for "lld", float32 [its own frames, 32], see `shards.extract.lowlevel`,
    and "waveform", int16 [samples], the wave itself.

    The definition is librosa's, without `top_db`: periodic Hann window, frames centred on
    multiples of `hop` with zeros beyond the ends, power spectrum, Slaney's mel filters of unit
    area, 10 log10(max(S, 1e-10)); the MFCC is the orthonormal DCT-II of those decibels. A wave of
    n samples gives 1 + n // hop frames.

    scipy's FFT, a sparse product and elementwise numpy do all the work: none of them changes its
    order of summation with the number of threads, so the bytes are the same in every worker.
    """

    def __init__(self, config: FeatureConfig, sample_rate: int) -> None:
        """Prepare window, filters and DCT for waves at `sample_rate` (Hz).

        Raises:
            FeatureError: `fmax` lies above half the rate, or the mels are too many for `n_fft`.
        """
        from scipy.sparse import csr_array

        self.config = config
        self._window = hann(config.n_fft)
        self._filters = None
        if config.kinds != (WAVEFORM,):
            self._filters = csr_array(_mel_filters(config, sample_rate))
        self._lowlevel = LowLevel(config.lowlevel, sample_rate) if LLD in config.kinds else None

    def __call__(self, wave: np.ndarray, clean: bool = True) -> dict[str, np.ndarray]:
        """The configured features of `wave`, float32 [samples]; of a variant (not `clean`) no lld.

        Tracking pitch costs more than all else, which five variants would pay five times.
        """
        made: dict[str, np.ndarray] = {}
        if {"logmel", "mfcc"} & set(self.config.kinds):
            made["logmel"] = self._logmel(wave)
        if "mfcc" in self.config.kinds:
            made["mfcc"] = self._mfcc(made["logmel"])
        if self._lowlevel is not None and clean:
            made[LLD] = self._lowlevel(wave)
        if WAVEFORM in self.config.kinds:
            made[WAVEFORM] = quantise(wave)
        return {kind: made[kind] for kind in self.config.kinds if kind in made}

    def _logmel(self, wave: np.ndarray) -> np.ndarray:
        parts = spectrum(wave, self._window, self.config.hop).view(np.float32)
        np.square(parts, out=parts)  # real and imaginary parts alternate
        power = parts[:, 0::2] + parts[:, 1::2]
        assert self._filters is not None
        mel = (self._filters @ power.T).T
        np.maximum(mel, np.float32(FLOOR), out=mel)
        np.log10(mel, out=mel)
        mel *= np.float32(10)
        return np.ascontiguousarray(mel)

    def _mfcc(self, logmel: np.ndarray) -> np.ndarray:
        from scipy.fft import dct

        full = dct(logmel, type=2, norm="ortho", axis=1)
        return np.ascontiguousarray(full[:, : self.config.coefficients])


def hann(size: int) -> np.ndarray:
    """The periodic Hann window, float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def spectrum(wave: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """Short-time spectrum: complex64 [1 + samples // hop, len(window) // 2 + 1].

    Frame t is centred on sample t * hop of `wave` (float32 [samples]); zeros lie beyond its ends.
    """
    from scipy.fft import rfft

    padded = np.pad(wave, len(window) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    return rfft(frames * window, axis=1, overwrite_x=True)


def _mel_filters(config: FeatureConfig, sample_rate: int) -> np.ndarray:
    """Slaney's mel filters, float32 [mels, bins]."""
    import librosa

    if config.fmax is not None and config.fmax > sample_rate / 2:
        raise FeatureError(
            f"features.fmax = {config.fmax} Hz lies above half the sampling rate "
            f"({sample_rate} Hz): lower it, or leave it out"
        )
    with warnings.catch_warnings():  # librosa warns of empty filters; they are an error below
        warnings.simplefilter("ignore")
        filters = librosa.filters.mel(
            sr=sample_rate,
            n_fft=config.n_fft,
            n_mels=config.mels,
            fmin=config.fmin,
            fmax=config.fmax,
        )
    empty = int((~filters.any(axis=1)).sum())
    if empty:
        raise FeatureError(
            f"features.mels = {config.mels}: {empty} filters catch no frequency of a frame of "
            f"{config.n_fft} samples at {sample_rate} Hz; take fewer mels or a larger n_fft"
        )
    return filters
