"""The variant noise: white noise, drawn anew for every turn."""

from __future__ import annotations

import numpy as np

from shards.extract.augment.variant import Clean, Variant


def add_noise(wave: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """`wave` plus white Gaussian noise, `snr` dB below it as measured over the whole wave."""
    noise = rng.standard_normal(len(wave), dtype=np.float32)
    ratio = _power(wave) / max(_power(noise), 1e-30) / 10 ** (snr / 10)
    noise *= np.float32(np.sqrt(ratio))
    noise += wave
    return noise


def _power(wave: np.ndarray) -> float:
    return float(np.square(wave).mean(dtype=np.float64))


def _make(clean: Clean, snr: float, rng: np.random.Generator) -> np.ndarray:
    return add_noise(clean.wave, snr, rng)


# dB between the recording's power and the noise's.
NOISE = Variant("noise", "noise_snr", (10.0, 30.0), _make)
