"""A phase vocoder, which the variants pitch and stretch share: another speed at the same pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.extract.spectrum import hann, spectrum

QUIET = np.float32(1e-12)  # far below the spectrum of a single step of 24 bits
FRAME_SECONDS = 0.046  # several periods of a low voice: 1024 samples at 22.05 kHz


@dataclass(frozen=True, slots=True)
class Analysis:
    """What time stretching needs to know of a wave, shared by stretch and pitch.

    `magnitude` float32 [frames, bins]; `advance` complex64 [frames, bins], of modulus 1: the
    turn of each bin's phase from a frame to the next; `start` complex64 [bins]: the first frame's
    phases. The wave had `samples` samples, its frames lie a quarter of the `window` apart.
    """

    magnitude: np.ndarray
    advance: np.ndarray
    start: np.ndarray
    samples: int
    window: np.ndarray


def analyse(wave: np.ndarray, rate: int) -> Analysis:
    """Analyse `wave` (float32 [samples] at `rate` Hz) once for any number of stretches."""
    window = hann(2 ** round(np.log2(rate * FRAME_SECONDS)))
    hop = len(window) // 4
    # Two hops of zeros more: the last output frames look one frame ahead.
    spectra = spectrum(np.pad(wave, (0, 2 * hop)), window, hop)
    magnitude = np.abs(spectra)
    spectra *= 1 / np.maximum(magnitude, QUIET)
    spectra[magnitude < QUIET] = 1  # digital silence has no phase; any will do
    advance = spectra[1:] * spectra[:-1].conj()
    return Analysis(magnitude, advance, spectra[0], len(wave), window)


def stretch(analysis: Analysis, rate: float) -> np.ndarray:
    """The wave at `rate` times its speed and the same pitch: float32 [round(samples / rate)].

    A phase vocoder: output frames are read every `rate` input frames, magnitudes interpolated,
    phases advanced by what the input's phases advance there. Its phases are locked as in Puckette,
    "Phase-locked vocoder" (WASPAA 1995).
    """
    last = analysis.samples // (len(analysis.window) // 4)
    position = np.arange(0, last + 1, rate)
    frame = position.astype(int)
    right = (position - frame).astype(np.float32)[:, None]
    magnitude = analysis.magnitude[frame]
    magnitude += right * (analysis.magnitude[frame + 1] - magnitude)
    spectra = _carry_phases(magnitude, analysis.advance[frame], analysis.start)
    return _synthesise(spectra, analysis.window, round(analysis.samples / rate))


def _carry_phases(magnitude: np.ndarray, advance: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Spectra, complex64 [frames, bins], of these magnitudes, each frame's phases from the last's.

    What is carried on is not a bin's own phase but that of the bin less its two neighbours. Under
    a Hann window the bins of one partial alternate in sign, so this is their common phase, and
    they stay together; each on its own they drift apart, and a voice loses 2 to 4 dB unevenly.
    Unit complex numbers stand for phases: no arctangents, no sines.
    """
    frames, bins = magnitude.shape
    padded = np.zeros((frames, bins + 2), dtype=np.complex64)
    spectra = padded[:, 1:-1]
    np.multiply(start, magnitude[0], out=spectra[0])
    phase = np.empty(bins, dtype=np.complex64)
    gain = np.empty(bins, dtype=np.float32)
    lower, upper = padded[:, :-2], padded[:, 2:]
    rows = zip(spectra, lower, upper, advance, magnitude[1:], spectra[1:], strict=False)
    for now, below, above, turn, size, then in rows:  # the outputs are given: no new memory
        np.subtract(now, below, phase)
        np.subtract(phase, above, phase)
        np.add(phase, QUIET, phase)  # silence has no phase: let the next sound start with its own
        np.multiply(phase, turn, phase)
        np.abs(phase, gain)
        np.divide(size, gain, gain)
        np.multiply(phase, gain, then)
    return spectra


def _synthesise(spectra: np.ndarray, window: np.ndarray, samples: int) -> np.ndarray:
    """Overlap-add of `spectra`, complex64 [frames, bins], a quarter window apart."""
    from scipy.fft import irfft

    frames = irfft(spectra, axis=1, overwrite_x=True)
    frames *= window
    wave = _overlap_add(frames)
    wave /= np.maximum(_overlap_add(np.broadcast_to(window**2, frames.shape)), 1e-3)
    return fit_length(wave[len(window) // 2 :], samples)


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    count, size = frames.shape
    quarters = frames.reshape(count, 4, size // 4)
    total = np.zeros((count + 3, size // 4), dtype=np.float32)
    for i in range(4):
        total[i : i + count] += quarters[:, i]
    return total.ravel()


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """`wave` cut, or filled up with zeros, to [samples]."""
    if len(wave) < samples:
        return np.pad(wave, (0, samples - len(wave)))
    return np.ascontiguousarray(wave[:samples])
