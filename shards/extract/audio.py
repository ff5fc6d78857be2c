"""Read a recording: mono, one sampling rate, and every way in which a file can be bad."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import Field

from shards.configfile import Config
from shards.errors import UserError
from shards.extract.audio_container import Contents, examine
from shards.extract.audio_snr import Remarks, is_clipped, to_full_scale
from shards.extract.audio_stream import BadContainer

if TYPE_CHECKING:
    import soundfile


class AudioConfig(Config):
    """How recordings are read and which are turned away."""

    sample_rate: int = Field(default=22050, ge=4000, le=192000)  # Hz
    min_seconds: float = Field(default=0.05, gt=0)  # a little more than one frame of 1024 samples
    max_seconds: float | None = Field(default=None, gt=0)  # none: long turns are told, not rejected
    silence_dbfs: float = Field(default=-80.0, le=-20)  # what never rises above it is silent
    min_snr: float | None = None  # dB, blind estimate (WADA); none: every recording passes
    low_snr: Literal["flag", "drop"] = "flag"  # what happens to a recording below `min_snr`


Kind = Literal[
    "missing",
    "empty",
    "pointer",  # Git LFS's note in place of the file
    "not audio",
    "no length",  # a format that does not say how long it is
    "bad header",
    "truncated",
    "several streams",  # joined, but of different rates or channels
    "not finite",
    "out of range",
    "too short",
    "too long",
    "outside",  # a segment that the recording does not have
    "silent",
]

# Formats that say how long they are, so that a cut copy is noticed.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "MP1", "MP2",
           "NIST", "VOC", "SVX", "HTK", "SDS")  # fmt: skip
SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC")  # exact to the sample
RATES = (1000, 768_000)  # Hz; a header outside of them is damaged
LONGEST = 4 * 3600.0  # seconds of sound that are decoded at once
MOST = 2**27  # values (samples by channels) that are decoded at once: 512 MiB
BLOCK = 2**16  # samples
UNKNOWN_FRAMES = 2**48  # a FLAC stream of unknown length has 2^63 - 1 in libsndfile
SLIP = 0.1  # seconds that a segment may end behind its recording: rounded times


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
    `remarks` are other facts to report, as (kind, reason).
    """

    wave: np.ndarray
    clipped: bool
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """SHA-256 of the sound (hex), the same whatever the file's name and container."""
        return hashlib.sha256(self.wave.tobytes()).hexdigest()


Segment = tuple[float, float | None]  # seconds; None: to the recording's end


def read(path: str | Path, config: AudioConfig) -> np.ndarray:
    """The waveform of `load`: float32 [samples], mono, at `config.sample_rate`.

    Raises:
        AudioError: as `load`.
    """
    return load(path, config).wave


def load(
    path: str | Path,
    config: AudioConfig,
    segment: Segment | None = None,
    data: bytes | None = None,
) -> Recording:
    """Read an audio file, or the `segment` of it, of any depth, rate and channel count.

    `data` is the file's content if it lies elsewhere; `path` then only names it in errors.

    The formats are those of `FORMATS`, whatever the file is called. Channels are averaged, less
    those that are silent; the rate is changed by soxr (its HQ setting). Several streams one behind
    the other are one recording. Segments are cut before that, exact to the file's own sample.

    Raises:
        AudioError: the file cannot be used; `Kind` lists the reasons.
    """
    import soxr

    name = os.fsencode(path).decode("utf-8", "backslashreplace")  # a name need not be UTF-8
    try:
        samples, rate, remarks = _decode(Path(path) if data is None else data, segment)
        samples, more = _checked(samples, rate, config)
    except BadContainer as problem:
        raise AudioError(cast(Kind, problem.kind), name, problem.detail) from None
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    # Half the span, not the peak: a constant offset is silence too.
    if float(mono.max() - mono.min()) / 2 < _level(config):
        detail = f"never above audio.silence_dbfs = {config.silence_dbfs} dB of full scale"
        raise AudioError("silent", name, detail)
    if rate != config.sample_rate:
        mono = soxr.resample(mono, rate, config.sample_rate)
    clipped = is_clipped(samples)
    return Recording(np.ascontiguousarray(mono), clipped, (*remarks, *more))


def _checked(samples: np.ndarray, rate: int, config: AudioConfig) -> tuple[np.ndarray, Remarks]:
    """The samples less silent channels, after the checks on all of them, and remarks."""
    if not len(samples):
        raise BadContainer("empty", "it holds no samples; remove it or record it again")
    if not np.isfinite(samples).all():
        count = int(samples.size - np.isfinite(samples).sum())
        raise BadContainer("not finite", f"{count} samples are NaN or infinite; export it again")
    seconds = len(samples) / rate
    if seconds < config.min_seconds:
        detail = f"{seconds:.3f} s, less than audio.min_seconds = {config.min_seconds}"
        raise BadContainer("too short", detail)
    if config.max_seconds is not None and seconds > config.max_seconds:
        detail = f"{seconds:.1f} s, more than audio.max_seconds = {config.max_seconds:g}"
        raise BadContainer("too long", detail)
    remarks: Remarks = []
    samples = to_full_scale(samples, remarks)
    if samples.shape[1] > 1:
        # A microphone that was off would halve the level, and its zeros would pass for clipping.
        heard = (samples.max(axis=0) - samples.min(axis=0)) / 2 >= _level(config)
        if heard.any() and not heard.all():
            off = ", ".join(str(1 + channel) for channel in np.flatnonzero(~heard))
            remarks.append(("silent channel", f"left out: channel {off} of {len(heard)}"))
            samples = np.ascontiguousarray(samples[:, heard])
    return samples, remarks


def _level(config: AudioConfig) -> float:
    return float(10 ** (config.silence_dbfs / 20))


def _decode(source: Path | bytes, segment: Segment | None) -> tuple[np.ndarray, int, Remarks]:
    """The samples, float32 [samples, channels], the rate (Hz), and remarks."""
    contents = _examine(source)
    if isinstance(source, Path) and contents.parts is None:
        samples, rate = _read(source, segment)
    elif isinstance(source, bytes) and contents.parts is None:
        samples, rate = _read_part(source, segment)
    else:
        parts = contents.parts or ()
        samples, rate = _join([_read_part(part, None) for part in parts], segment)
    if contents.samples is not None and segment is None:
        samples = samples[: contents.samples]
    return samples, rate, [*contents.remarks]


def _examine(source: Path | bytes) -> Contents:
    empty = BadContainer("empty", "0 bytes; copy it again or remove it")
    if isinstance(source, bytes):
        if not source:
            raise empty
        return examine(source)
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # to open a pipe would wait for ever
            raise BadContainer("missing", "it is no file; check the corpus folder")
        with source.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise empty
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return examine(data)
    except FileNotFoundError:
        raise BadContainer("missing", "no such file; check the corpus folder") from None
    except OSError as error:
        raise BadContainer("missing", f"cannot be opened: {error.strerror}") from None


def _join(
    parts: Sequence[tuple[np.ndarray, int]], segment: Segment | None
) -> tuple[np.ndarray, int]:
    kinds = {(rate, samples.shape[1]) for samples, rate in parts}
    if len(kinds) > 1:
        named = " and ".join(f"{rate} Hz with {count} channels" for rate, count in sorted(kinds))
        raise BadContainer("several streams", f"{len(parts)} of them, {named}; save them apart")
    samples, rate = np.concatenate([samples for samples, _ in parts]), parts[0][1]
    first, last = _place(segment, len(samples), rate)
    return samples[first:last], rate


def _read_part(part: bytes, segment: Segment | None) -> tuple[np.ndarray, int]:
    # A file in memory with a path: libsndfile opens MP3 through nothing else.
    with open(os.memfd_create("part"), "wb") as file:
        file.write(part)
        file.flush()
        return _read(Path(f"/proc/self/fd/{file.fileno()}"), segment)


def _read(path: Path, segment: Segment | None) -> tuple[np.ndarray, int]:
    import soundfile

    name = os.fsencode(path)  # a text would have to be UTF-8
    try:
        with soundfile.SoundFile(name) as file:
            if file.seekable() and file.frames < UNKNOWN_FRAMES:
                return _samples(file, segment), file.samplerate
        with _forward()(name) as file:
            return _samples(file, segment), file.samplerate
    # TypeError: a headerless .raw. The others: sizes in a damaged header.
    except (soundfile.SoundFileError, TypeError, OverflowError, ValueError, MemoryError) as error:
        if "lost sync" in str(error):  # FLAC, cut inside a block
            raise BadContainer("truncated", "a block is cut; copy it again") from None
        detail = "WAV, FLAC, OGG, MP3, AIFF and more can be read, but not this"
        raise BadContainer("not audio", f"{detail} ({error})") from None


@cache
def _forward() -> type[soundfile.SoundFile]:
    import soundfile

    class Forward(soundfile.SoundFile):
        """Is never sought in: behind the end of a stream of unknown length that is an error."""

        def seekable(self) -> bool:
            return False

    return Forward


def _samples(file: soundfile.SoundFile, segment: Segment | None) -> np.ndarray:
    """What an open file holds, or the segment of it; its header is believed in nothing."""
    if file.format not in FORMATS:
        detail = f"{file.format} files do not say how long they are, so a cut one would pass"
        raise BadContainer("no length", f"{detail}; convert it to WAV or FLAC")
    rate, promised = file.samplerate, file.frames
    if not RATES[0] <= rate <= RATES[1]:
        raise BadContainer("bad header", f"a sampling rate of {rate} Hz; export it again")
    known = file.seekable()
    if known and segment is not None and file.format in SEEKABLE:
        first, last = _place(segment, promised, rate)
        _check_size(last - first, file)
        file.seek(first)
        samples = file.read(last - first, dtype="float32", always_2d=True)
        promised = last - first
    elif known:
        _check_size(promised, file)
        samples = file.read(dtype="float32", always_2d=True)
    else:
        samples = _read_blocks(file)
        promised = len(samples)
    if len(samples) < promised:
        detail = f"{promised} samples promised, {len(samples)} there; copy the file again"
        raise BadContainer("truncated", detail)
    if segment is not None and not (known and file.format in SEEKABLE):
        first, last = _place(segment, len(samples), rate)
        samples = samples[first:last]
    return samples


def _read_blocks(file: soundfile.SoundFile) -> np.ndarray:
    """All samples of a file that cannot tell how many it has."""
    blocks, count = [np.empty((0, file.channels), np.float32)], 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        count += len(block)
        _check_size(count, file)
    return np.concatenate(blocks)


def _check_size(samples: int, file: soundfile.SoundFile) -> None:
    seconds = samples / file.samplerate
    if seconds > LONGEST or samples * file.channels > MOST:
        detail = f"{seconds:.0f} s by its header is no turn"
        raise BadContainer("too long", f"{detail}; cut it, or export it again")


def _place(segment: Segment | None, samples: int, rate: int) -> tuple[int, int]:
    """The first sample of `segment` and the one behind its last."""
    if segment is None:
        return 0, samples
    start, end = segment
    first = round(max(0.0, start) * rate)
    last = samples if end is None else round(end * rate)
    if last - samples > SLIP * rate or first >= min(last, samples):
        until = "the end" if end is None else f"{end:g} s"
        detail = f"{start:g} s to {until} of a recording of {samples / rate:.3f} s"
        raise BadContainer("outside", f"{detail}; correct start and end")
    return first, min(last, samples)
