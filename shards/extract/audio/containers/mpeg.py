"""MPEG audio (MP3) frame by frame: where one stream ends and the next begins.

A LAME or Xing header counts the frames of its own stream, and decoders stop there: of two files
joined by `cat`, the second is never heard.
"""

from __future__ import annotations

from dataclasses import dataclass

from shards.extract.audio.containers.stream import Data

# kbit/s by (MPEG 1?, layer), index 1 to 14
_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
EXTRA = 2  # frames
SURE = 8  # frames in a row that are no accident
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
RESYNC = 0x10000  # bytes searched for the next frame before the rest counts as something else


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its length in bytes, and the count of frames if it is a Xing header.

    `counted` is None for a frame of sound and 0 for a Xing header without a count.
    """

    length: int
    counted: int | None


def is_mpeg(data: Data) -> bool:
    """Whether `data` starts with MPEG audio: two frames in a row, perhaps behind an ID3 tag."""
    start = tag_end(data, 0)
    frame = read_frame(data, start)
    if frame is None:
        return False
    after = start + frame.length
    return after >= len(data) or read_frame(data, after) is not None


def tag_end(data: Data, position: int) -> int:
    """Behind the ID3v2 tags, and the zeros after them, that start at `position`."""
    while data[position : position + 3] == b"ID3" and position + 10 <= len(data):
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + 10 * bool(data[position + 5] & 0x10)
        while position < len(data) and data[position] == 0:
            position += 1
    return min(position, len(data))


def find_stream(data: Data) -> int | None:
    """Where a stream begins behind something else (a tag at the wrong end, a server's answer)."""
    head = bytes(data[:RESYNC])
    position = head.find(b"\xff", 1)
    while position > 0:
        place, frames = position, 0
        while frames < SURE and (frame := read_frame(data, place)) is not None:
            place, frames = place + frame.length, frames + 1
        if frames == SURE:
            return position
        position = head.find(b"\xff", position + 1)
    return None


def stream_end(data: Data) -> tuple[int, int]:
    """Where the first stream of `data` ends, and how many bytes inside it are no sound.

    It ends at the start of the next one, at a tag, or at the data's end.
    """
    skipped = 0
    position = tag_end(data, 0)
    frames, limit, counted_end = 0, 0, len(data)
    first = read_frame(data, position)
    if first is not None and first.counted is not None:
        limit = first.counted  # 0: the header has no count
        position += first.length
    while position < len(data):
        frame = read_frame(data, position)
        if frame is None:
            if data[position : position + 3] in (b"TAG", b"ID3", b"APE"):
                return _behind_tag(data, position), skipped
            start, position = position, _resync(data, position)
            skipped += position - start if position < len(data) else 0
            continue
        if frame.counted is not None:
            return position, skipped
        if frames == limit:
            counted_end = position
        frames += 1
        # A frame or two beyond the count are a writer's way of counting; more are another stream.
        if limit and frames > limit + EXTRA:
            return counted_end, skipped
        position += frame.length
    return len(data), skipped


def read_frame(data: Data, position: int) -> Frame | None:
    """The frame whose header stands at `position`, or None if none does."""
    header = data[position : position + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate, hertz = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or rate in (0, 15) or hertz == 3:
        return None
    first = version == 3  # MPEG 1; else MPEG 2 or 2.5
    bits, padding = 1000 * _RATES[first, layer][rate - 1], header[2] >> 1 & 1
    if layer == 1:
        length = (12 * bits // _HERTZ[version][hertz] + padding) * 4
    else:
        samples = 1152 if first or layer == 2 else 576
        length = samples // 8 * bits // _HERTZ[version][hertz] + padding
    mono = header[3] >> 6 == 3
    side = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    tag = data[position + side : position + side + 12]
    counted = None
    if tag[:4] in (b"Xing", b"Info"):
        counted = int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
    return Frame(length, counted)


def _behind_tag(data: Data, position: int) -> int:
    """The end of a stream with a tag at `position`: behind an ID3v1 tag, before any other."""
    if data[position : position + 3] == b"TAG":
        return min(position + 128, len(data))
    return position


def _resync(data: Data, position: int) -> int:
    """The next place where two frames follow each other; the data's end if there is none near."""
    for start in range(position + 1, min(position + RESYNC, len(data))):
        frame = read_frame(data, start)
        if frame is not None and read_frame(data, start + frame.length) is not None:
            return start
    return len(data)
