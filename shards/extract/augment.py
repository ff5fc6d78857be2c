"""The paper's four augmentations of a waveform: noise, pitch, stretch, shift."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from shards.configfile import Config
from shards.extract.spectrum import hann, spectrum

QUIET = np.float32(1e-12)  # far below the spectrum of a single step of 24 bits
FRAME_SECONDS = 0.046  # of the phase vocoder: several periods of a low voice, 1024 at 22.05 kHz


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


def variants(
    wave: np.ndarray, rate: int, config: AugmentConfig, seed: int, utterance_id: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each configured variant with its waveform, float32 [samples]; the clean one is `wave`.

    What is drawn depends on (seed, utterance id, variant) alone: neither the order of utterances
    nor the other variants change it.

    Args:
        wave: float32 [samples] at `rate` (Hz).
    """
    analysis: Analysis | None = None
    for variant in config.variants:
        rng = variant_rng(seed, utterance_id, variant)
        if variant == "noise":
            yield variant, add_noise(wave, rng.uniform(*config.noise_snr), rng)
        elif variant == "shift":
            yield variant, np.roll(wave, round(rng.uniform(*config.shift_share) * len(wave)))
        else:
            analysis = analysis or analyse(wave, rate)
            if variant == "pitch":
                yield variant, shift_pitch(analysis, rng.uniform(*config.pitch_semitones))
            else:
                yield variant, stretch(analysis, rng.uniform(*config.stretch_rate))


def variant_rng(seed: int, utterance_id: str, variant: str) -> np.random.Generator:
    """The generator for one variant of one utterance."""
    name = json.dumps([seed, utterance_id, variant]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest(), "big"))


def add_noise(wave: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """`wave` plus white Gaussian noise, `snr` dB below it as measured over the whole wave."""
    noise = rng.standard_normal(len(wave), dtype=np.float32)
    ratio = _power(wave) / max(_power(noise), 1e-30) / 10 ** (snr / 10)
    noise *= np.float32(np.sqrt(ratio))
    noise += wave
    return noise


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


def shift_pitch(analysis: Analysis, semitones: float) -> np.ndarray:
    """The wave `semitones` higher and of the same length: float32 [samples].

    Stretched to 2**(semitones / 12) times its length, then resampled back to its own.
    """
    import soxr

    ratio = 2 ** (semitones / 12)
    wave = soxr.resample(stretch(analysis, 1 / ratio), ratio, 1, quality="MQ")
    return _fit(wave, analysis.samples)


def _synthesise(spectra: np.ndarray, window: np.ndarray, samples: int) -> np.ndarray:
    """Overlap-add of `spectra`, complex64 [frames, bins], a quarter window apart."""
    from scipy.fft import irfft

    frames = irfft(spectra, axis=1, overwrite_x=True)
    frames *= window
    wave = _overlap_add(frames)
    wave /= np.maximum(_overlap_add(np.broadcast_to(window**2, frames.shape)), 1e-3)
    return _fit(wave[len(window) // 2 :], samples)


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    count, size = frames.shape
    quarters = frames.reshape(count, 4, size // 4)
    total = np.zeros((count + 3, size // 4), dtype=np.float32)
    for i in range(4):
        total[i : i + count] += quarters[:, i]
    return total.ravel()


def _fit(wave: np.ndarray, samples: int) -> np.ndarray:
    if len(wave) < samples:
        return np.pad(wave, (0, samples - len(wave)))
    return np.ascontiguousarray(wave[:samples])


def _power(wave: np.ndarray) -> float:
    return float(np.square(wave).mean(dtype=np.float64))
