from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    """`speech(seconds, rate, f0, seed)`: float32, a voice-like tone in syllables, with pauses."""

    def make(
        seconds: float = 2.0, rate: int = 22050, f0: float = 150.0, seed: int = 0
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        pitch = f0 * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        harmonics = range(1, int(0.45 * rate / f0 / 1.06))
        voice = sum(np.sin(n * phase + rng.uniform(0, 6)) / n for n in harmonics)
        syllables = np.clip(np.sin(2 * np.pi * 2 * time) + 0.3, 0, None) ** 1.5
        wave = voice * syllables + 1e-3 * rng.standard_normal(len(time))
        return (0.3 * wave / np.abs(wave).max()).astype(np.float32)

    return make
