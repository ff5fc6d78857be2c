"""A waveform whose log-mel spectrum is the given one, as nearly as can be.

The mel filters are undone by least squares, the phases are found by iteration (Griffin and Lim
1984, with the momentum of Perraudin, Balazs and Søndergaard 2013). It sounds hollow, but its
loudness is right.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft

from shards.extract.spectrum import SpectrumConfig, hann, mel_filters, spectrum

ITERATIONS, MOMENTUM = 24, 0.99


def invert(
    logmel: np.ndarray, config: SpectrumConfig, sample_rate: int, seed: int = 0
) -> np.ndarray:
    """float32 [(frames - 1) * hop] in ±1, from a log-mel spectrum [frames, mels] in dB."""
    frames = len(logmel)
    if frames < 2:
        return np.zeros(0, np.float32)
    filters = mel_filters(config, sample_rate)
    power = 10 ** (np.asarray(logmel, np.float64) / 10)
    # Each bin is given the power of the filters over it, by the least squares of smallest norm.
    wanted = np.sqrt(np.maximum(power @ np.linalg.pinv(filters).T, 0))
    window = hann(config.n_fft)
    rng = np.random.default_rng(seed)
    phase = np.exp(2j * np.pi * rng.random(wanted.shape))
    before = np.zeros(wanted.shape, complex)
    for _ in range(ITERATIONS):
        wave = _overlap_add(wanted * phase, window, config.hop)
        again = spectrum(wave, window, config.hop)[:frames]
        ahead = again + MOMENTUM * (again - before)
        phase, before = ahead / np.maximum(np.abs(ahead), 1e-12), again
    wave = _overlap_add(wanted * phase, window, config.hop)
    return wave / max(1.0, float(np.abs(wave).max(initial=0)))


def _overlap_add(frames: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """The wave of a spectrum, float32 [(frames - 1) * hop]: `spectrum` read backwards."""
    size = len(window)
    parts = irfft(frames, size, axis=1) * window
    total = np.zeros((len(parts) - 1) * hop + size)
    weight = np.zeros(len(total))
    for number, part in enumerate(parts):
        start = number * hop
        total[start : start + size] += part
        weight[start : start + size] += window**2
    half = size // 2
    inside = slice(half, half + (len(parts) - 1) * hop)
    return (total[inside] / np.maximum(weight[inside], 1e-8)).astype(np.float32)
