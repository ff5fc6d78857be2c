"""Samples of a recording: whole, or several segments of it from one pass; no header is believed.

libsndfile reads what it can, PyAV (`media`) the containers that it does not know.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.extract.audio import media
from shards.extract.audio.containers.examine import Contents, examine
from shards.extract.audio.containers.stream import BadContainer
from shards.extract.audio.cutting import BLOCK, MOST, Cutter, Segment, check_size, place
from shards.extract.audio.level import Remarks

if TYPE_CHECKING:
    import soundfile

# Formats that say how long they are, so that a cut copy is noticed.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "MP1", "MP2",
           "NIST", "VOC", "SVX", "HTK", "SDS")  # fmt: skip
SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC")  # exact to the sample
MPEG = ("MP3", "MP2", "MP1")
RATES = (1000, 768_000)  # Hz; a header outside of them is damaged
UNKNOWN_FRAMES = 2**48  # a FLAC stream of unknown length has 2^63 - 1 in libsndfile
LAST_BLOCK = 4096  # samples; what a coding in blocks may add to fill the last one up

Wanted = Segment | None  # None: the whole recording
Decoded = tuple[np.ndarray, int, Remarks]  # float32 [samples, channels], rate (Hz), remarks
Pieces = tuple[list[np.ndarray | BadContainer], int]  # one for each segment; rate (Hz)


def decode_all(source: Path | bytes, segments: Sequence[Wanted]) -> list[Decoded | BadContainer]:
    """Several segments of one recording, which is decoded once at most.

    Formats in which libsndfile seeks exactly are sought in; of others, blocks are decoded one after
    another and only the segments kept. A segment that the recording does not have is an error in
    its place of the list.

    Raises:
        BadContainer: the recording cannot be used at all.
        media.MissingExtra: it takes PyAV, which is not installed.
    """
    contents = _examine(source)
    remarks = [*contents.remarks]
    if contents.media is not None:
        pieces, rate, more = media.cut(source, contents.media, segments)
        remarks += more
    elif contents.parts is None:
        pieces, rate = _cut(source, segments)
    elif len(contents.parts) == 1:
        pieces, rate = _cut(contents.parts[0], segments)
    else:
        samples, rate = _join([_whole(part) for part in contents.parts])
        pieces = []
        for segment in segments:
            try:
                first, last = place(segment, len(samples), rate)
                pieces.append(samples[first:last])
            except BadContainer as problem:
                pieces.append(problem)
    found: list[Decoded | BadContainer] = []
    for segment, piece in zip(segments, pieces, strict=True):
        if isinstance(piece, BadContainer):
            found.append(piece)
            continue
        if contents.samples is not None and segment is None:
            more_than_counted = len(piece) - contents.samples
            if 0 < more_than_counted < LAST_BLOCK:  # else the count is wrong, as many writers' is
                piece = piece[: contents.samples]
        found.append((piece, rate, remarks))
    return found


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


def _join(parts: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    kinds = {(rate, samples.shape[1]) for samples, rate in parts}
    if len(kinds) > 1:
        named = " and ".join(f"{rate} Hz with {count} channels" for rate, count in sorted(kinds))
        raise BadContainer("several streams", f"{len(parts)} of them, {named}; save them apart")
    return np.concatenate([samples for samples, _ in parts]), parts[0][1]


def _whole(part: bytes) -> tuple[np.ndarray, int]:
    [piece], rate = _cut(part, [None])
    if isinstance(piece, BadContainer):
        raise piece
    return piece, rate


def _cut(source: Path | bytes, segments: Sequence[Wanted]) -> Pieces:
    if isinstance(source, Path):
        return _cut_file(source, segments)
    # A file in memory with a path: libsndfile opens MP3 through nothing else.
    with open(os.memfd_create("part"), "wb") as file:
        file.write(source)
        file.flush()
        return _cut_file(Path(f"/proc/self/fd/{file.fileno()}"), segments)


def _cut_file(path: Path, segments: Sequence[Wanted]) -> Pieces:
    import soundfile

    name = os.fsencode(path)  # a text would have to be UTF-8
    try:
        with soundfile.SoundFile(name) as file:
            if file.seekable() and file.frames < UNKNOWN_FRAMES:
                return _pieces(file, segments, known=True), file.samplerate
        with _forward()(name) as file:
            return _pieces(file, segments, known=False), file.samplerate
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


def _pieces(
    file: soundfile.SoundFile, segments: Sequence[Wanted], known: bool
) -> list[np.ndarray | BadContainer]:
    """The segments of an open file. `known` tells that it can be sought in and has a length."""
    if file.format not in FORMATS:
        detail = f"{file.format} files do not say how long they are, so a cut one would pass"
        raise BadContainer("no length", f"{detail}; convert it to WAV or FLAC")
    rate = file.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise BadContainer("bad header", f"a sampling rate of {rate} Hz; export it again")
    if known and (file.format in SEEKABLE or list(segments) == [None]):
        pieces: list[np.ndarray | BadContainer] = []
        for segment in segments:
            try:
                pieces.append(_sought(file, segment))
            except BadContainer as problem:
                pieces.append(problem)
        return pieces
    cutter = Cutter(segments, rate, file.channels)
    # mpg123 may lose a frame at a boundary of two reads: MP3 is read at once where memory allows.
    size = MOST // file.channels if known and file.format in MPEG else BLOCK
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        cutter.feed(block)
    if known and cutter.count < file.frames:
        raise _short(file.frames, cutter.count)
    return cutter.pieces()


def _sought(file: soundfile.SoundFile, segment: Wanted) -> np.ndarray:
    first, last = place(segment, file.frames, file.samplerate)
    check_size(last - first, file.samplerate, file.channels)
    if segment is not None:
        file.seek(first)
    samples = file.read(last - first, dtype="float32", always_2d=True)
    if len(samples) < last - first:
        raise _short(last - first, len(samples))
    return samples


def _short(promised: int, there: int) -> BadContainer:
    detail = f"{promised} samples promised, {there} there; copy the file again"
    return BadContainer("truncated", detail)
