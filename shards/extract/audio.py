"""Read a recording: mono, one sampling rate, and every way in which a file can be bad."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import Field

from shards.configfile import Config
from shards.errors import UserError


class AudioConfig(Config):
    """How recordings are read and which are turned away."""

    sample_rate: int = Field(default=22050, ge=4000, le=192000)  # Hz
    min_seconds: float = Field(default=0.05, gt=0)  # a little more than one frame of 1024 samples
    silence_dbfs: float = Field(default=-80.0, le=-20)  # what never rises above it is silent
    min_snr: float | None = None  # dB, blind estimate (WADA); none: every recording passes
    low_snr: Literal["flag", "drop"] = "flag"  # what happens to a recording below `min_snr`


Kind = Literal["missing", "empty", "not audio", "truncated", "not finite", "too short", "silent"]


class AudioError(UserError):
    """A recording that cannot be used; `kind` says why in a word or two, for counting."""

    def __init__(self, kind: Kind, path: str, detail: str) -> None:
        # All three stay in `args`, so that the error survives the way back from a worker process.
        super().__init__(kind, path, detail)
        self.kind = kind
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A usable recording: `wave` float32 [samples] mono at the configured rate, nominally in ±1.

    `clipped` tells that the file's loudest parts are cut flat: a fact to report, not an error.
    `source_rate` is the file's own sampling rate (Hz).
    """

    wave: np.ndarray
    clipped: bool
    source_rate: int


def read(path: str | Path, config: AudioConfig) -> np.ndarray:
    """The waveform of `load`: float32 [samples], mono, at `config.sample_rate`.

    Raises:
        AudioError: as `load`.
    """
    return load(path, config).wave


def load(path: str | Path, config: AudioConfig) -> Recording:
    """Read an audio file of any format, depth, rate and channel count that libsndfile knows.

    Channels are averaged; the rate is changed by soxr (its HQ setting).

    Raises:
        AudioError: the file is missing, empty, no audio, truncated, too short or silent, or
            holds NaN or infinite samples.
    """
    import soxr

    samples, rate = _decode(Path(path))
    if not len(samples):
        raise AudioError("empty", str(path), "it holds no samples; remove it or record it again")
    if not np.isfinite(samples).all():
        count = int(samples.size - np.isfinite(samples).sum())
        raise AudioError(
            "not finite", str(path), f"{count} samples are NaN or infinite; export it again"
        )
    seconds = len(samples) / rate
    if seconds < config.min_seconds:
        detail = f"{seconds:.3f} s, less than audio.min_seconds = {config.min_seconds}"
        raise AudioError("too short", str(path), detail)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    # Half the span, not the peak: a constant offset is silence too.
    if float(mono.max() - mono.min()) / 2 < 10 ** (config.silence_dbfs / 20):
        detail = f"never above audio.silence_dbfs = {config.silence_dbfs} dB of full scale"
        raise AudioError("silent", str(path), detail)
    if rate != config.sample_rate:
        mono = soxr.resample(mono, rate, config.sample_rate)
    return Recording(np.ascontiguousarray(mono), _is_clipped(samples), rate)


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """All samples, float32 [samples, channels], and the rate (Hz)."""
    import soundfile

    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise AudioError("empty", str(path), "0 bytes; copy it again or remove it")
            missing = _missing(file, size)
    except FileNotFoundError:
        raise AudioError("missing", str(path), "no such file; check the corpus folder") from None
    except OSError as error:
        raise AudioError("missing", str(path), f"cannot be opened: {error.strerror}") from None
    if missing:
        raise AudioError("truncated", str(path), f"{missing}; copy the file again")
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless .raw
        if "lost sync" in str(error):  # FLAC, cut inside a block
            raise AudioError("truncated", str(path), "a block is cut; copy it again") from None
        detail = "libsndfile reads WAV, FLAC, OGG, MP3, AIFF and more, but not this"
        raise AudioError("not audio", str(path), f"{detail} ({error})") from None
    if len(samples) < promised:
        detail = f"{promised} samples promised, {len(samples)} there; copy the file again"
        raise AudioError("truncated", str(path), detail)
    return samples, rate


def _missing(file: BinaryIO, size: int) -> str:
    """What a container's header promises beyond the file's end ("" if nothing).

    libsndfile shortens such a file without a word: a cut copy would pass for a short turn.
    """
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                there = size - file.tell()
                unknown = length == 0xFFFFFFFF  # written to a pipe: the writer could not know
                if length > there and not unknown:
                    return f"the header promises {length} bytes of samples, {there} are there"
                return ""
            file.seek(length + length % 2, os.SEEK_CUR)
        return "it ends inside the header"
    if head[:4] == b"FORM" and len(head) == 12:  # AIFF
        length = struct.unpack(">I", head[4:8])[0] + 8
        return f"the header promises {length} bytes, {size} are there" if length > size else ""
    if head[:4] == b"OggS":
        file.seek(max(0, size - 0x10000))  # a page is shorter than 64 KiB
        tail = file.read()
        page = tail[max(0, tail.rfind(b"OggS")) :]
        lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
        ends = len(page) > 26 and page[5] & 4 and len(page) >= 27 + page[26] + sum(lengths)
        return "" if ends else "the stream's last page is cut or not there"
    return ""


def _is_clipped(samples: np.ndarray) -> bool:
    """Whether a channel of [samples, channels] runs flat along its extreme value again and again.

    Flat means three equal samples at the channel's maximum or minimum; a clean signal touches its
    extreme once, a clipped one stays there, whatever the level it was scaled to afterwards.
    """
    for channel in samples.T:
        for extreme in (channel.max(), channel.min()):
            flat = np.flatnonzero(channel == extreme)
            if np.count_nonzero(flat[2:] - flat[:-2] == 2) >= 3:
                return True
    return False
