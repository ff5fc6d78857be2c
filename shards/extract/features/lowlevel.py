"""Low-level descriptors: the 32 numbers for each frame that classic emotion recognisers read.

The set is Lee & Tashev's (2015): fundamental frequency, voice probability, zero-crossing rate, 12
MFCC and log energy, in this order, and then the first differences of those 16.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from shards.configfile import Config
from shards.extract.features.spec import Extract, Feature
from shards.extract.spectrum import LogMel, SpectrumConfig, cepstrum

WIDTH = 32
F0, VOICE, ZERO_CROSSINGS, MFCC, ENERGY = 0, 1, 2, slice(3, 15), 15  # columns
STATIC = 16  # columns before the differences

VOICED = 0.45  # correlation from which `yin` takes a frame as voiced; Boersma's (1993) threshold
SILENCE = 1e-10  # mean square below which a frame has -100 dB


class LowLevelConfig(Config):
    """How the low-level descriptors (`features.kinds: [lld]`) are measured.

    `pyin` (Mauch & Dixon 2014) tracks pitch and voice probability together, and takes about 80 ms
    of one core for a second of speech. `yin` (de Cheveigné & Kawahara 2002) takes a fortieth of
    that: it looks at each frame by itself, and its voice probability is the correlation of the wave
    with itself one period later.
    """

    pitch: Literal["pyin", "yin"] = "pyin"
    window: float = Field(default=0.025, gt=0.005, le=0.2)  # seconds; not the pitch's, see below
    hop: float = Field(default=0.010, gt=0.001, le=0.1)  # seconds
    fmin: float = Field(default=65.0, ge=30)  # Hz, of the voice
    fmax: float = Field(default=500.0, le=2000)  # Hz
    mels: int = Field(default=26, ge=13, le=128)  # filters behind the MFCC

    @model_validator(mode="after")
    def _sensible(self) -> LowLevelConfig:
        if self.fmax < 2 * self.fmin:
            raise ValueError("lowlevel.fmax: voices span an octave, so at least twice fmin")
        return self


class LowLevel:
    """Waveform -> float32 [frames, 32].

    Columns: F0 in Hz (0 where the frame is unvoiced), voice probability (0 to 1), zero-crossing
    rate (crossings a sample), MFCC 1 to 12 (orthonormal, of decibels; 0 is left out, the energy
    stands for it), log energy (dB, floor -100), and each one's difference to the frame before (0
    in the first). Frames are centred on multiples of the hop: 1 + samples // hop of them. The pitch
    needs two periods of the lowest voice and therefore looks at a longer window of its own.
    """

    def __init__(self, config: LowLevelConfig, sample_rate: int) -> None:
        """Prepare for waves at `sample_rate` (Hz).

        Raises:
            FeatureError: the mels are too many for the window.
        """
        _find_place_for_numba()
        self.config, self.rate = config, sample_rate
        self.hop = round(config.hop * sample_rate)
        self.window = 2 * round(config.window * sample_rate / 2)
        period = int(sample_rate / config.fmin) + 2
        self.pitch_window = 1 << (2 * period - 1).bit_length()
        self._logmel = LogMel(
            SpectrumConfig(n_fft=self.window, hop=self.hop, mels=config.mels), sample_rate
        )

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """The descriptors of `wave`, float32 [samples]."""
        import librosa

        f0_T, voice_T = self._pyin(wave) if self.config.pitch == "pyin" else self._yin(wave)
        frames: dict[str, Any] = {"frame_length": self.window, "hop_length": self.hop}
        [crossings_T] = librosa.feature.zero_crossing_rate(wave, **frames)
        [loudness_T] = librosa.feature.rms(y=wave, **frames)
        energy_T = 10 * np.log10(np.maximum(loudness_T.astype(np.float64) ** 2, SILENCE))
        static = np.empty((len(f0_T), STATIC), np.float32)
        static[:, F0], static[:, VOICE], static[:, ZERO_CROSSINGS] = f0_T, voice_T, crossings_T
        static[:, MFCC] = cepstrum(self._logmel(wave), 1 + 12)[:, 1:]
        static[:, ENERGY] = energy_T
        return np.concatenate((static, np.diff(static, axis=0, prepend=static[:1])), axis=1)

    def _pyin(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import librosa

        f0_T, _, voice_T = librosa.pyin(wave, fill_na=0.0, **self._pitch_settings())
        return f0_T, voice_T

    def _yin(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import librosa

        f0_T = librosa.yin(wave, **self._pitch_settings())
        voice_T = self._likeness(wave, np.rint(self.rate / f0_T).astype(np.int64))
        return np.where(voice_T >= VOICED, f0_T, 0.0), voice_T

    def _pitch_settings(self) -> dict[str, Any]:
        return {
            "fmin": self.config.fmin,
            "fmax": self.config.fmax,
            "sr": self.rate,
            "frame_length": self.pitch_window,
            "hop_length": self.hop,
        }

    def _likeness(self, wave: np.ndarray, period_T: np.ndarray) -> np.ndarray:
        """Correlation of each frame with the wave one period later, 0 to 1; float64 [frames]."""
        reach = (self.window + int(period_T.max())) // 2 + 1
        padded = np.pad(wave.astype(np.float64), reach)
        middle_T = reach + self.hop * np.arange(len(period_T))
        start_T1 = (middle_T - (self.window + period_T) // 2)[:, None]
        here = padded[start_T1 + np.arange(self.window)]
        there = padded[start_T1 + period_T[:, None] + np.arange(self.window)]
        size_T = np.sqrt((here**2).sum(1) * (there**2).sum(1))
        return np.clip((here * there).sum(1) / np.maximum(size_T, SILENCE), 0.0, 1.0)


def _find_place_for_numba() -> None:
    """Give numba a folder for what librosa compiles, where it would find none and fail.

    It looks beside librosa and in the home, which in a container may both be read-only. Workers
    inherit the folder by the environment; it is removed at the end of the process that made it.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    found = find_spec("librosa")
    assert found is not None
    assert found.origin is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if any(map(_writable, (Path(found.origin).parent / "core" / "__pycache__", cache))):
        return
    folder = tempfile.mkdtemp(prefix="emo-numba-")  # not a name that others could guess and fill
    os.environ["NUMBA_CACHE_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _extract(config: LowLevelConfig, sample_rate: int) -> Extract:
    lowlevel = LowLevel(config, sample_rate)
    return lambda wave, made: lowlevel(wave)


LLD = Feature(
    name="lld",
    dtype=np.dtype("<f2"),
    prepare=_extract,
    length="own frames",
    width=lambda config: WIDTH,
    clean_only=True,  # pitch tracking takes longer than all else, and would for each variant again
    section="lowlevel",
    settings=LowLevelConfig,
    preload=("librosa.core.pitch", "librosa.feature.spectral"),  # with numba: seconds for a worker
)
