"""The variant pitch: a higher or lower voice of the same length."""

from __future__ import annotations

import numpy as np

from shards.extract.augment.variant import Clean, Variant
from shards.extract.augment.vocoder import Analysis, fit_length, stretch


def shift_pitch(analysis: Analysis, semitones: float) -> np.ndarray:
    """The wave `semitones` higher and of the same length: float32 [samples].

    Stretched to 2**(semitones / 12) times its length, then resampled back to its own.
    """
    import soxr

    ratio = 2 ** (semitones / 12)
    wave = soxr.resample(stretch(analysis, 1 / ratio), ratio, 1, quality="MQ")
    return fit_length(wave, analysis.samples)


def _make(clean: Clean, semitones: float, rng: np.random.Generator) -> np.ndarray:
    return shift_pitch(clean.analysis, semitones)


PITCH = Variant("pitch", "pitch_semitones", (-2.0, 2.0), _make, least=-12, most=12)
