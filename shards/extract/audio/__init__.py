"""From a recording on disk to a waveform: decoding, its checks, and the level of the sound."""

from shards.extract.audio.config import AudioConfig
from shards.extract.audio.recording import (
    AudioError,
    Kind,
    Recording,
    load,
    load_all,
    of_samples,
    read,
)

__all__ = [
    "AudioConfig",
    "AudioError",
    "Kind",
    "Recording",
    "load",
    "load_all",
    "of_samples",
    "read",
]
