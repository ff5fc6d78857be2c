"""Samples of a recording, as libsndfile decodes them; a header is believed in nothing."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.extract.audio.containers.examine import Contents, examine
from shards.extract.audio.containers.stream import BadContainer
from shards.extract.audio.level import Remarks

if TYPE_CHECKING:
    import soundfile

# Formats that say how long they are, so that a cut copy is noticed.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "MP1", "MP2",
           "NIST", "VOC", "SVX", "HTK", "SDS")  # fmt: skip
SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC")  # exact to the sample
RATES = (1000, 768_000)  # Hz; a header outside of them is damaged
LONGEST = 4 * 3600.0  # seconds of sound that are decoded at once
MOST = 2**27  # values (samples by channels) that are decoded at once: 512 MiB
BLOCK = 2**16  # samples
UNKNOWN_FRAMES = 2**48  # a FLAC stream of unknown length has 2^63 - 1 in libsndfile
LAST_BLOCK = 4096  # samples; what a coding in blocks may add to fill the last one up
SLIP = 0.1  # seconds that a segment may end behind its recording: rounded times

Segment = tuple[float, float | None]  # seconds; None: to the recording's end


def decode(source: Path | bytes, segment: Segment | None) -> tuple[np.ndarray, int, Remarks]:
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
        more = len(samples) - contents.samples
        if 0 < more < LAST_BLOCK:  # else the count is wrong, as many writers' is
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
        if "flac decoder" in str(error):  # a checksum does not fit
            raise BadContainer("damaged", f"{error}; copy it again") from None
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
