"""Containers made of chunks, a name and a length each: WAV and its sisters, and AIFF."""

from __future__ import annotations

import struct

from shards.extract.audio.containers.stream import SLACK, UNKNOWN, BadContainer, Data, Stream, short

# Names that tell a chunk from the padding byte before it.
CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"INFO", b"JUNK", b"junk", b"PAD ", b"FLLR", b"bext",
          b"cue ", b"smpl", b"inst", b"PEAK", b"DISP", b"iXML", b"axml", b"cart", b"id3 ", b"ID3 ",
          b"ds64", b"chna", b"acid", b"plst", b"ltxt", b"note", b"labl", b"_PMX")  # fmt: skip
# Microsoft's and IMA ADPCM, GSM 6.10, NMS and G.721 ADPCM: numbers of the chunk `fmt `.
BLOCK_CODINGS = (0x02, 0x11, 0x31, 0x38, 0x40, 0x45)
TAIL = (
    0x10000  # bytes before the end in which chunks behind samples of unknown length are looked for
)


def riff(data: Data) -> Stream:
    """WAV, its big-endian sister RIFX, and the 64-bit RF64 and BW64."""
    order = ">" if data[:4] == b"RIFX" else "<"
    position, mended, long = 12, False, 0
    kept = b""  # the chunks that say how the samples are coded
    while position + 8 <= len(data):
        name, length = struct.unpack_from(f"{order}4sI", data, position)
        begin = position + 8
        if name == b"data":
            if length == 0xFFFFFFFF and long:
                length = long
            return _riff_samples(data, order, kept, (begin, length, mended))
        body = bytes(data[begin : begin + length]) if length < 0x10000 else b""
        if name == b"ds64" and len(body) >= 16:
            long = struct.unpack_from("<Q", body, 8)[0]
        if name in (b"fmt ", b"fact"):
            kept += struct.pack(f"{order}4sI", name, len(body)) + body + b"\0" * (len(body) % 2)
        position = begin + length
        if length % 2:
            mended = True  # libsndfile loses its way behind some of them, padded or not
            # Chunks start at even places; some writers forget the byte that fills an odd one up.
            position += data[position : position + 4] not in CHUNKS
    raise BadContainer("truncated", "it ends inside the header; copy the file again")


def _riff_samples(data: Data, order: str, kept: bytes, samples: tuple[int, int, bool]) -> Stream:
    begin, length, mended = samples
    there = len(data) - begin
    if length > there:
        if length < UNKNOWN and length - there > SLACK:
            raise short(length, there)
        length, mended = _until_chunks(data, begin, order), True
    elif length == 0 and there and _chunks_end(data, begin, order) is None:
        # The writer was stopped before it could fill the length in.
        length, mended = _until_chunks(data, begin, order), True
    end = min(len(data), begin + length + length % 2)
    after = _chunks_end(data, end, order)
    after = end if after is None else after
    if not mended:
        return Stream(after, samples=_counted(kept, order))
    body = bytes(data[begin : begin + length])
    chunk = struct.pack(f"{order}4sI", b"data", length) + body + b"\0" * (length % 2)
    magic = b"RIFX" if order == ">" else b"RIFF"
    size = 4 + len(kept) + len(chunk)
    whole = struct.pack(f"{order}4sI", magic, size) + b"WAVE" + kept + chunk
    return Stream(after, whole)


def _counted(kept: bytes, order: str) -> int | None:
    """The count of samples in the chunk `fact`, for codings whose last block is filled up."""
    place = kept.find(b"fact")
    if place < 0 or struct.unpack_from(f"{order}H", kept, 8)[0] not in BLOCK_CODINGS:
        return None
    return int(struct.unpack_from(f"{order}I", kept, place + 8)[0])


def _chunks_end(data: Data, position: int, order: str) -> int | None:
    """Where the chunks that follow the samples end; None if what follows is no chain of them."""
    while position + 8 <= len(data):
        name, length = struct.unpack_from(f"{order}4sI", data, position)
        if name in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return position
        if not all(32 <= byte < 127 for byte in name) or position + 8 + length > len(data):
            return None
        position += 8 + length + length % 2
    return min(position, len(data))


def _until_chunks(data: Data, begin: int, order: str) -> int:
    """The bytes from `begin` to the chunks that end the file, or to its end if there are none."""
    first = max(begin, len(data) - TAIL)
    tail = bytes(data[first:])
    places = [
        place
        for name in CHUNKS
        if name != b"data"
        and (place := tail.find(name)) >= 0
        and _chunks_end(data, first + place, order) == len(data)
    ]
    return first + min(places, default=len(tail)) - begin


def form(data: Data) -> Stream:
    """AIFF, AIFF-C and the Amiga's 8SVX."""
    length = struct.unpack_from(">I", data, 4)[0]
    end = 8 + length + length % 2
    if end <= len(data) + SLACK and length:
        return Stream(min(end, len(data)))
    if 0 < length < UNKNOWN:
        raise short(length + 8, len(data))
    return Stream(len(data), _mended_form(data))


def _mended_form(data: Data) -> bytes:
    whole = bytearray(data)
    struct.pack_into(">I", whole, 4, len(data) - 8)
    position, frames_at, frame = 12, 0, 0
    while position + 8 <= len(data):
        name, length = struct.unpack_from(">4sI", data, position)
        if name == b"COMM" and position + 16 <= len(data):
            channels, _, bits = struct.unpack_from(">HIH", data, position + 8)
            frames_at, frame = position + 10, channels * -(-bits // 8)
        if name == b"SSND":
            there = len(data) - position - 8
            struct.pack_into(">I", whole, position + 4, there)
            if frame:
                struct.pack_into(">I", whole, frames_at, max(0, there - 8) // frame)
            break
        position += 8 + length + length % 2
    return bytes(whole)
