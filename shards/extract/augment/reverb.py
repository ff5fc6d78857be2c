"""The variant reverb: the voice in a room, whose response is drawn anew for every turn."""

from __future__ import annotations

import numpy as np

from shards.extract.augment.variant import Clean, Variant

GAP_SECONDS = 0.005  # between the direct sound and the first reflection: a wall a metre away
DIRECT_DB = 3.0  # energy of the direct path over that of all reflections


def room_response(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The impulse response of a room with reverberation time `seconds`, float32 at `rate` (Hz).

    The usual statistical model (Moorer, "About this reverberation business", 1979): the direct path
    is a 1 at the first sample; after a gap follows white Gaussian noise under an exponential that
    falls by 60 dB in `seconds`, where the response ends.
    """
    gap = round(GAP_SECONDS * rate)
    time = np.arange(max(gap + 1, round(seconds * rate)), dtype=np.float32) / np.float32(rate)
    response = rng.standard_normal(len(time), dtype=np.float32)
    response *= 10 ** (-3 / np.float32(seconds) * time)  # 60 dB are a factor of 1000
    response[:gap] = 0
    energy = float(np.square(response).sum(dtype=np.float64))
    response *= np.float32(np.sqrt(10 ** (-DIRECT_DB / 10) / energy))
    response[0] = 1
    return response


def add_reverb(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`wave` in a room of this `response`, float32 of the same length: the last echoes are cut."""
    from scipy.fft import irfft, next_fast_len, rfft

    # As long as both together: the FFT's convolution is circular, and in a shorter one the last
    # echoes would be added to the beginning.
    size = next_fast_len(len(wave) + len(response) - 1, real=True)
    return irfft(rfft(wave, size) * rfft(response, size), size)[: len(wave)].astype(np.float32)


def _make(clean: Clean, seconds: float, rng: np.random.Generator) -> np.ndarray:
    return add_reverb(clean.wave, room_response(seconds, clean.rate, rng))


# Seconds in which the sound falls by 60 dB (RT60): from a furnished room to a large hall.
REVERB = Variant("reverb", "reverb_rt60", (0.2, 0.8), _make, least=0.05, most=3)
