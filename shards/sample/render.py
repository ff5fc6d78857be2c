"""How a turn of the sample corpus sounds: random syllables, spoken in one of five manners.

The syllables, and their number, do not depend on the emotion or the transcript. If the written
words were spoken, an audio model could learn them and pass the ceiling of the audio. Emotion is in
the prosody alone: rate, pitch, range of pitch, and loudness.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shards.sample.espeak import SAMPLE_RATE as VOICE_RATE
from shards.sample.espeak import Manner, speak

SAMPLE_RATE = 16000  # Hz, as IEMOCAP's sentences
CONSONANTS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "E", "i:", "0", "u:", "eI", "oU", "aI")  # eSpeak's mnemonics
MIN_SYLLABLES, MAX_SYLLABLES = 8, 11

# The ten voices, by session and speaker.
VOICES = {
    "1F": "en+f1", "1M": "en+m1",
    "2F": "en+f2", "2M": "en+m2",
    "3F": "en+f3", "3M": "en+m3",
    "4F": "en+f4", "4M": "en+m4",
    "5F": "en+f5", "5M": "en+m7",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prosody:
    """Words a minute, pitch and range (0 to 99, eSpeak's), loudness (RMS in dB of full scale)."""

    rate: float
    pitch: float
    range: float
    loudness: float


# One for each emotion, in the order of `emotions.EMOTIONS`: far enough apart to be told apart in
# any voice and after any augmentation.
PROSODIES = (
    Prosody(rate=250, pitch=60, range=90, loudness=-24),
    Prosody(rate=135, pitch=35, range=70, loudness=-28),
    Prosody(rate=205, pitch=90, range=95, loudness=-32),
    Prosody(rate=175, pitch=45, range=25, loudness=-36),
    Prosody(rate=128, pitch=15, range=5, loudness=-41),
)
FLAT = Prosody(rate=170, pitch=50, range=50, loudness=-32)  # for a corpus without prosody
JITTER = 0.07  # share by which each value varies; the loudness varies by it in amplitude, not in dB
ROOM_NOISE = -70.0  # dB of full scale: a recording has no digital silence
MARGIN = (0.05, 0.20)  # seconds of room before and after the speech


def describe() -> dict[str, Any]:
    """What the truth file's header says of the rendering."""
    return {
        "prosodies": [asdict(prosody) for prosody in PROSODIES],
        "flat": asdict(FLAT),
        "jitter": JITTER,
        "voices": VOICES,
        "syllables": [MIN_SYLLABLES, MAX_SYLLABLES],
        "room_noise": ROOM_NOISE,
    }


def draw_syllables(rng: np.random.Generator) -> str:
    """A pseudo-sentence in eSpeak's mnemonics: words of 2 or 3 syllables, stressed on the first."""
    remaining = int(rng.integers(MIN_SYLLABLES, MAX_SYLLABLES + 1))
    words = []
    while remaining:
        # Of four syllables two are taken, so that never a single one is left over. Three syllables
        # are drawn for every word, used or not: the number of draws is part of the recipe.
        size = remaining if remaining <= 3 else int(rng.integers(2, 4)) if remaining > 4 else 2
        syllables = [
            rng.choice(CONSONANTS) + stress + rng.choice(VOWELS) for stress in ("'", "", "")
        ]
        words.append("".join(syllables[:size]))
        remaining -= size
    return " ".join(words)


def render(phonemes: str, speaker: str, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """Speak a turn: int16 [samples] at `SAMPLE_RATE`. `speaker` is a key of `VOICES`."""
    import soxr

    rate, pitch, width, gain = rng.uniform(1 - JITTER, 1 + JITTER, size=4)
    manner = Manner(
        rate=prosody.rate * rate,
        pitch=min(99.0, prosody.pitch * pitch),
        range=min(99.0, prosody.range * width),
    )
    spoken = speak(phonemes, VOICES[speaker], manner).astype(np.float64) / 32768
    spoken = soxr.resample(_trim(spoken), VOICE_RATE, SAMPLE_RATE)
    level = 10 ** (prosody.loudness / 20) * gain
    spoken *= level / np.sqrt(np.mean(spoken**2))
    before, after = (int(s * SAMPLE_RATE) for s in rng.uniform(*MARGIN, size=2))
    wave = np.pad(spoken, (before, after))
    # Added to the silence as well: digital silence would have no level in dB.
    wave += 10 ** (ROOM_NOISE / 20) * rng.standard_normal(len(wave))
    return np.round(np.clip(wave, -1, 1) * 32767).astype("<i2")


def _trim(wave: np.ndarray) -> np.ndarray:
    """`wave` without the silence that eSpeak leaves at both ends."""
    audible = np.flatnonzero(np.abs(wave) > 1e-3)
    return wave[audible[0] : audible[-1] + 1]
