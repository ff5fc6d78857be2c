"""Short-time spectra, and the log-mel spectrum and cepstrum computed from them.

The definitions are librosa's, without `top_db`: periodic Hann window, frames centred on multiples
of the hop with zeros beyond the ends, power spectrum, Slaney's mel filters of unit area,
10 log10(max(S, 1e-10)); the MFCC is the orthonormal DCT-II of those decibels.

Everything is computed by scipy's FFT, a sparse product and elementwise numpy. None of these changes
its order of summation with the number of threads, so every worker makes the same bytes.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from shards.configfile import Config
from shards.errors import UserError

FLOOR = 1e-10  # power below which everything is -100 dB


class FeatureError(UserError):
    """Feature settings that do not fit the sampling rate."""


class SpectrumConfig(Config):
    """The analysis behind log-mel spectrum and MFCC."""

    n_fft: int = Field(default=1024, ge=64, le=16384)  # samples a frame (Hann window)
    hop: int = Field(default=256, ge=16)  # samples between frames
    mels: int = Field(default=128, ge=8, le=512)
    coefficients: int = Field(default=40, ge=1)  # of the MFCC
    fmin: float = Field(default=0.0, ge=0)  # Hz
    fmax: float | None = Field(default=None, gt=0)  # Hz; none: half the sampling rate

    @model_validator(mode="after")
    def _sensible(self) -> SpectrumConfig:
        if self.n_fft % 2:
            raise ValueError("n_fft: must be even")
        if self.hop > self.n_fft:
            raise ValueError("hop: must not exceed n_fft, or samples between frames are lost")
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError("fmax: must lie above fmin")
        return self


class LogMel:
    """Waveform, float32 [samples] -> log-mel spectrum, float32 [1 + samples // hop, mels] in dB."""

    def __init__(self, config: SpectrumConfig, sample_rate: int) -> None:
        """Prepare window and filters for waves at `sample_rate` (Hz).

        Raises:
            FeatureError: `fmax` lies above half the rate, or the mels are too many for `n_fft`.
        """
        from scipy.sparse import csr_array

        self._hop = config.hop
        self._window = hann(config.n_fft)
        self._filters = csr_array(mel_filters(config, sample_rate))

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """The log-mel spectrum of `wave`."""
        # The complex numbers seen as pairs of floats: the power is the sum of their squares, made
        # in place and without the square root of an absolute value.
        parts = spectrum(wave, self._window, self._hop).view(np.float32)
        np.square(parts, out=parts)
        power = parts[:, 0::2] + parts[:, 1::2]
        mel = (self._filters @ power.T).T
        np.maximum(mel, np.float32(FLOOR), out=mel)
        np.log10(mel, out=mel)
        mel *= np.float32(10)
        return np.ascontiguousarray(mel)


def cepstrum(logmel: np.ndarray, coefficients: int) -> np.ndarray:
    """The first `coefficients` MFCC of a log-mel spectrum: float32 [frames, coefficients]."""
    from scipy.fft import dct

    full = dct(logmel, type=2, norm="ortho", axis=1)
    return np.ascontiguousarray(full[:, :coefficients])


def hann(size: int) -> np.ndarray:
    """The periodic Hann window, float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def spectrum(wave: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """Short-time spectrum: complex64 [1 + samples // hop, len(window) // 2 + 1].

    Frame t is centred on sample t * hop of `wave` (float32 [samples]); zeros lie beyond its ends.
    """
    from scipy.fft import rfft

    padded = np.pad(wave, len(window) // 2)
    # A view with overlapping rows, which costs no memory; the product below makes the copy.
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    return rfft(frames * window, axis=1, overwrite_x=True)


# Slaney's mel scale: linear up to 1000 Hz, logarithmic above.
_HERTZ_A_MEL, _LINEAR_HERTZ = 200.0 / 3, 1000.0
_LINEAR_MELS, _LOG_STEP = _LINEAR_HERTZ / _HERTZ_A_MEL, np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _LINEAR_HERTZ:
        return hertz / _HERTZ_A_MEL
    return float(_LINEAR_MELS + np.log(hertz / _LINEAR_HERTZ) / _LOG_STEP)


def _hertz(mels: np.ndarray) -> np.ndarray:
    found = _HERTZ_A_MEL * mels
    above = mels >= _LINEAR_MELS
    found[above] = _LINEAR_HERTZ * np.exp(_LOG_STEP * (mels[above] - _LINEAR_MELS))
    return found


def mel_filters(config: SpectrumConfig, sample_rate: int) -> np.ndarray:
    """Slaney's mel filters, float32 [mels, bins].

    To the last bit those of `librosa.filters.mel`, of which every older dataset was made. librosa
    itself is not imported: its numba wants a folder to write in, which a container may not have.
    """
    if config.fmax is not None and config.fmax > sample_rate / 2:
        raise FeatureError(
            f"features.fmax = {config.fmax} Hz lies above half the sampling rate "
            f"({sample_rate} Hz): lower it, or leave it out"
        )
    fmax = sample_rate / 2 if config.fmax is None else config.fmax
    edges = _hertz(np.linspace(_mel(config.fmin), _mel(fmax), config.mels + 2))
    widths = np.diff(edges)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(config.n_fft, d=1.0 / sample_rate))
    filters = np.zeros((config.mels, config.n_fft // 2 + 1), np.float32)
    for band in range(config.mels):
        rising, falling = -ramps[band] / widths[band], ramps[band + 2] / widths[band + 1]
        filters[band] = np.maximum(0, np.minimum(rising, falling))
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    empty = int((~filters.any(axis=1)).sum())
    if empty:
        raise FeatureError(
            f"features.mels = {config.mels}: {empty} filters cover no frequency of a frame of "
            f"{config.n_fft} samples at {sample_rate} Hz; use fewer mels or a larger n_fft"
        )
    return filters
