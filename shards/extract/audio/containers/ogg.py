"""Ogg (Vorbis, Opus, Speex) page by page: each has a number and a checksum.

libsndfile leaves a page out whose checksum does not fit, and ends at a page that is missing, both
without a word.
"""

from __future__ import annotations

import struct
import zlib

from shards.extract.audio.containers.stream import BadContainer, Data, Stream

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg(data: Data) -> Stream:
    """The first stream of `data`, or streams that run side by side.

    Raises:
        BadContainer: a page is cut, missing, or not as it was written.
    """
    position, begun, ended = 0, False, False
    following: dict[bytes, int] = {}  # stream -> number of its next page
    while data[position : position + 4] == b"OggS":
        table = position + 27
        count = data[position + 26] if table <= len(data) else 0
        end = table + count + sum(data[table : table + count])
        if table > len(data) or end > len(data):
            raise BadContainer("truncated", "the last page is cut; copy the file again")
        flags = data[position + 5]
        if flags & 2 and begun:  # the first page of the next stream
            return Stream(position)
        page = bytes(data[position:end])
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        if page[22:26] not in (checksum(page), checksum(_as_last(page))):
            raise BadContainer("damaged", f"page {number} is not as it was written; copy it again")
        if following.get(stream, number) != number:
            detail = f"page {following[stream]} is missing, page {number} follows; copy it again"
            raise BadContainer("damaged", detail)
        following[stream] = number + 1
        # Streams that run side by side show all their first pages before any other page.
        begun, ended = begun or not flags & 2, bool(flags & 4)
        position = end
    if not ended and position < len(data):
        raise BadContainer("truncated", "it stops between two pages; copy the file again")
    if ended:
        return Stream(position)
    # Voice messages are sent while they are spoken: nobody comes back to mark the last page.
    remark = ("no end mark", "the stream does not say that it ends here")
    return Stream(position, _with_end_mark(data, position), remark=remark)


def checksum(page: bytes) -> bytes:
    """The four bytes at place 22 of a page.

    Ogg's CRC has zlib's polynomial, but takes the bits of each byte the other way round, and
    begins and ends with zeros instead of ones.
    """
    blank = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack(">I", mirrored).translate(_REVERSED)


def _as_last(page: bytes) -> bytes:
    """`page` with the mark of the last one: programs that cut a stream may leave its checksum."""
    return page[:5] + bytes([page[5] | 4]) + page[6:]


def _with_end_mark(data: Data, end: int) -> bytes:
    """The Ogg pages before `end`, the last of them marked as the last."""
    whole = bytearray(data[:end])
    start = whole.rfind(b"OggS")
    whole[start:] = _as_last(bytes(whole[start:]))
    whole[start + 22 : start + 26] = checksum(bytes(whole[start:]))
    return bytes(whole)
