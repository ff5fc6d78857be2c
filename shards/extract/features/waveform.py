"""The waveform itself as a member of a sample: mono FLAC of 16 bits, for speech encoders."""

from __future__ import annotations

import io

import numpy as np

from shards.extract.features.spec import Extract, Feature

FULL_SCALE = 32768  # of 16 bits


def quantise(wave: np.ndarray) -> np.ndarray:
    """`wave` (float [samples], nominally in ±1) as int16 [samples]; values beyond are clipped.

    Divided by `FULL_SCALE`, the result is the wave again, up to rounding.
    """
    scaled = np.rint(np.asarray(wave, np.float32) * np.float32(FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def encode(samples: np.ndarray, rate: int) -> bytes:
    """int16 [samples] at `rate` (Hz) as a FLAC file, without loss."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode(data: memoryview) -> tuple[np.ndarray, int]:
    """The int16 [samples] and the rate (Hz) of a FLAC file. Raises ValueError for anything else."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.format, file.subtype, file.channels) != ("FLAC", "PCM_16", 1):
                raise ValueError(f"{file.channels} channels of {file.format} {file.subtype}")
            samples, promised, rate = file.read(dtype="int16"), file.frames, file.samplerate
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a FLAC member: {error}") from None
    if len(samples) != promised:
        raise ValueError(f"its FLAC stream ends after {len(samples)} of {promised} samples")
    samples.flags.writeable = False  # as the arrays of the other codecs are
    return samples, rate


def _extract(settings: object, sample_rate: int) -> Extract:
    return lambda wave, made: quantise(wave)


WAVEFORM = Feature(
    name="waveform",
    dtype=np.dtype("<i2"),
    prepare=_extract,
    length="samples",
    codec="flac",
    ending="flac",  # so that any player opens the member
    shared=False,
)
