"""What a sound file's container says of its length, compared with the bytes that are there.

libsndfile reads a cut file, and the first of several files in one, without a word: either would
pass for a short turn. It also turns away files whose writer could not go back to the header (it
wrote into a pipe), though all their samples are there. So the containers are walked here first:

- a file that promises more than it has is refused;
- a file that holds several streams, one behind the other, is taken apart (`Contents.parts`);
- a header without the true length is mended in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from shards.extract.audio.containers import mpeg
from shards.extract.audio.containers.foreign import PROBE, check_size, media_kind
from shards.extract.audio.containers.ogg import ogg
from shards.extract.audio.containers.riff import form, riff
from shards.extract.audio.containers.stream import SLACK, UNKNOWN, BadContainer, Data, Stream, short

POINTERS = (b"version https://git-lfs", b"version https://hawser", b"/annex/objects/")
ANNEX = b".git/annex/objects/"  # the target of git annex' links, where they were copied as files


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. `parts` is None where libsndfile may read the file as it lies.

    Else they are whole files, in their order. `samples` is the true count where the last block is
    filled up with noise. `remarks` are (kind, reason) pairs for the user. `media` names a container
    that libsndfile does not know.
    """

    parts: tuple[bytes, ...] | None = None
    samples: int | None = None
    remarks: tuple[tuple[str, str], ...] = ()
    media: str | None = None


def examine(data: Data) -> Contents:
    """Walk the container of a whole file.

    Raises:
        BadContainer: bytes are missing, or it is a pointer of Git LFS in the file's place.
    """
    if bytes(data[:32]).startswith(POINTERS) or ANNEX in bytes(data[:200]):
        detail = "a note in place of the file; run `git lfs pull` (git annex: `get`) in the corpus"
        raise BadContainer("pointer", detail)
    if (kind := media_kind(bytes(data[:PROBE]))) is not None:
        check_size(data)
        return Contents(media=kind)
    streams: list[tuple[int, Stream]] = []  # with the place where each begins
    remarks: list[tuple[str, str]] = []
    position, rest = 0, data
    if _walker(data) is None and (start := mpeg.find_stream(data)):
        remarks.append(("bytes left over", f"{start} bytes before the sound were not read"))
        position, rest = start, bytes(data[start:])
    while len(rest) and (walk := _walker(rest)) is not None:
        stream = walk(rest)
        streams.append((position, stream))
        if stream.remark is not None:
            remarks.append(stream.remark)
        position += max(stream.end, 1)
        rest = bytes(data[position:])
    left = len(bytes(rest).strip(b"\0")) if streams else 0
    if left > SLACK and not _is_tag(bytes(rest[:16])):
        remarks.append(("bytes left over", f"{left} bytes behind the sound were not read"))
    begins = not streams or streams[0][0] == 0
    if begins and len(streams) < 2 and all(stream.mended is None for _, stream in streams):
        return Contents(None, streams[0][1].samples if streams else None, tuple(remarks))
    parts = [
        bytes(data[start : start + stream.end]) if stream.mended is None else stream.mended
        for start, stream in streams
    ]
    return Contents(tuple(parts), None, tuple(remarks))


def _walker(data: Data) -> Callable[[Data], Stream] | None:
    head = bytes(data[:16])
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return riff
    if head[:4] == b"FORM" and len(head) >= 12:
        return form
    for magic, walk in _WALKERS.items():
        if head.startswith(magic):
            return walk
    if mpeg.is_mpeg(data):
        return _mpeg
    if head[:3] == b"ID3" and bytes(data[mpeg.tag_end(data, 0) :][:4]) == b"fLaC":
        return _flac
    return None


def _au(data: Data) -> Stream:
    order = ">" if data[:1] == b"." else "<"
    if len(data) < 24:
        raise BadContainer("truncated", "it ends inside the header; copy the file again")
    begin, length = struct.unpack_from(f"{order}2I", data, 4)
    there = len(data) - begin
    if length == 0xFFFFFFFF:  # the format's own word for "unknown"
        return Stream(len(data))
    if length > there + SLACK and length < UNKNOWN:
        raise short(length, max(0, there))
    if length > there or (length == 0 and there > 0):
        whole = bytearray(data)
        struct.pack_into(f"{order}I", whole, 8, 0xFFFFFFFF)
        return Stream(len(data), bytes(whole))
    return Stream(begin + length)


def _nist(data: Data) -> Stream:
    lines = bytes(data[:4096]).split(b"end_head")[0].splitlines()
    fields = {words[0]: words[-1] for line in lines if len(words := line.split()) == 3}
    try:
        header = int(lines[1])
        sizes = [int(fields[name]) for name in (b"sample_count", b"sample_n_bytes")]
        length = header + sizes[0] * sizes[1] * int(fields.get(b"channel_count", b"1"))
    except (KeyError, ValueError, IndexError):
        raise BadContainer(
            "bad header", "its NIST header does not say how long it is; convert it to WAV"
        ) from None
    if length > len(data) + SLACK:
        raise short(length, len(data))
    return Stream(min(length, len(data)))


def _w64(data: Data) -> Stream:
    position = 40
    while position + 24 <= len(data):
        length = struct.unpack_from("<Q", data, position + 16)[0]
        if data[position : position + 4] == b"data":
            there = len(data) - position
            if length - there > SLACK and length < 2**48:
                raise short(length, there)
            break
        position += max(24, length + -length % 8)
    return Stream(len(data))


def _caf(data: Data) -> Stream:
    position = 8
    while position + 12 <= len(data):
        name, length = struct.unpack_from(">4sq", data, position)
        there = len(data) - position - 12
        if name == b"data" and length == -1:  # libsndfile does not know the format's "unknown"
            whole = bytearray(data)
            struct.pack_into(">q", whole, position + 4, there)
            return Stream(len(data), bytes(whole))
        if length > there:
            raise short(length, there)
        position += 12 + max(0, length)
    return Stream(len(data))


def _voc(data: Data) -> Stream:
    if len(data) < 26:
        raise BadContainer("truncated", "it ends inside the header; copy the file again")
    position = struct.unpack_from("<H", data, 20)[0]
    while position < len(data) and data[position] != 0:
        if position + 4 > len(data):
            raise short(position + 4, len(data))
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "little")
    if position > len(data):
        raise short(position, len(data))
    return Stream(min(position + 1, len(data)))


def _flac(data: Data) -> Stream:
    # The magic word and the header of the first block, which has the same length in every file.
    behind = data.find(b"fLaC") + 4
    later = [data.find(b"fLaC" + kind + b"\0\0\x22", behind) for kind in (b"\0", b"\x80")]
    return Stream(min([start for start in later if start > 0], default=len(data)))


def _mpeg(data: Data) -> Stream:
    end, skipped = mpeg.stream_end(data)
    if not skipped:
        return Stream(end)
    return Stream(end, remark=("bytes left over", f"{skipped} bytes inside the sound are no sound"))


def _is_tag(rest: bytes) -> bool:
    return rest.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI"))


_WALKERS: dict[bytes, Callable[[Data], Stream]] = {
    b".snd": _au,
    b"dns.": _au,
    b"NIST_1A": _nist,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"caff": _caf,
    b"Creative Voice": _voc,
    b"fLaC": _flac,
    b"OggS": ogg,
}
