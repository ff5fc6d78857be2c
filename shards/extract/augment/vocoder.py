"""A phase vocoder, for the variants pitch and stretch: another speed at the same pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.extract.spectrum import hann, spectrum

QUIET = np.float32(1e-12)  # far below the spectrum of a single step of 24 bits
FRAME_SECONDS = 0.046  # several periods of a low voice: 1024 samples at 22.05 kHz


@dataclass(frozen=True, slots=True)
class Analysis:
    """The analysis of a wave for time stretching, shared by stretch and pitch.

    `magnitude` float32 [frames, bins]; `advance` complex64 [frames, bins], of modulus 1: the change
    of each bin's phase from one frame to the next; `start` complex64 [bins]: the phases of the
    first frame. The wave has `samples` samples; frames are a quarter of the `window` apart.
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
    # Two more hops of zeros: the last output frames interpolate with the frame after them.
    spectra = spectrum(np.pad(wave, (0, 2 * hop)), window, hop)
    magnitude = np.abs(spectra)
    spectra *= 1 / np.maximum(magnitude, QUIET)
    spectra[magnitude < QUIET] = 1  # digital silence has no phase; any will do
    advance = spectra[1:] * spectra[:-1].conj()
    return Analysis(magnitude, advance, spectra[0], len(wave), window)


def stretch(analysis: Analysis, rate: float) -> np.ndarray:
    """The wave at `rate` times its speed and the same pitch: float32 [round(samples / rate)].

    A phase vocoder: output frames are read every `rate` input frames. Magnitudes are interpolated;
    phases advance as the input's phases do at that place. Phases are locked as in Puckette,
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
    """Spectra, complex64 [frames, bins], of these magnitudes; phases follow from frame to frame.

    The phase that is carried on is not that of a bin, but that of the bin minus its two neighbours.
    Under a Hann window the bins of one partial alternate in sign, so this is their common phase,
    and they stay together. Each for itself they would drift apart, and a voice would lose 2 to 4
    dB, unevenly. Phases are complex numbers of modulus 1, which needs no arctangents and no sines.
    """
    frames, bins = magnitude.shape
    # A column of zeros on either side, so that the first and the last bin have neighbours, too.
    # `spectra`, `lower` and `upper` are views of one array: what is written to the one shows in the
    # others.
    padded = np.zeros((frames, bins + 2), dtype=np.complex64)
    spectra = padded[:, 1:-1]
    np.multiply(start, magnitude[0], out=spectra[0])
    phase = np.empty(bins, dtype=np.complex64)
    gain = np.empty(bins, dtype=np.float32)
    lower, upper = padded[:, :-2], padded[:, 2:]
    rows = zip(spectra, lower, upper, advance, magnitude[1:], spectra[1:], strict=False)
    for now, below, above, turn, size, then in rows:  # into given outputs: no new arrays
        np.subtract(now, below, phase)
        np.subtract(phase, above, phase)
        np.add(phase, QUIET, phase)  # never 0: silence has no phase, and is divided by below
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
    # Divided by the sum of the squared windows, which is smaller at both ends. The bound keeps the
    # very ends, where it is near 0, from being blown up.
    wave /= np.maximum(_overlap_add(np.broadcast_to(window**2, frames.shape)), 1e-3)
    return fit_length(wave[len(window) // 2 :], samples)


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    """The sum of `frames` [count, size], each a quarter of a frame after the one before."""
    # Four additions of whole arrays instead of one for each frame.
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
