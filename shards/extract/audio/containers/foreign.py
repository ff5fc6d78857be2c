"""Containers that libsndfile does not know, told by their first bytes."""

from __future__ import annotations

import struct

from shards.extract.audio.containers.stream import SLACK, UNKNOWN, Data, short

PROBE = 1024  # bytes
_TS = 188  # bytes of a packet of an MPEG transport stream


def media_kind(head: bytes) -> str | None:
    """What a file with these first bytes is ("an MP4 file"), or None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "an MP4 or QuickTime file"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "an AVI file"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    # AAC in ADTS frames: twelve bits that are set, and layer 0, which MP3 never has.
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and _adts(head):
        return "an AAC file"
    if len(head) > 3 * _TS and all(head[n * _TS] == 0x47 for n in range(4)):
        return "an MPEG transport stream"
    return None


def check_size(data: Data) -> None:
    """Compare the file's size with the one in its header: FFmpeg reads what is there of a cut file.

    Raises:
        BadContainer: an AVI or ASF file is shorter than its header says.
    """
    promised = 0
    if data[:4] == b"RIFF":
        promised = 8 + int(struct.unpack_from("<I", data, 4)[0])
        if promised >= UNKNOWN:  # written into a pipe
            return
    elif data[:8] == _ASF:
        place = bytes(data[:PROBE]).find(_ASF_PROPERTIES)
        if place >= 0 and place + 92 <= len(data):
            broadcast = data[place + 88] & 1  # then the other fields are not valid
            promised = 0 if broadcast else int(struct.unpack_from("<Q", data, place + 40)[0])
    if promised > len(data) + SLACK:
        raise short(promised, len(data))


_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
# The GUID of the object that holds the file's size and the recording's length.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MAGIC = {
    b"\x1a\x45\xdf\xa3": "a Matroska or WebM file",
    _ASF: "a WMA or other ASF file",
    b"#!AMR": "an AMR file",
    b"FLV\x01": "an FLV file",
    b"ADIF": "an AAC file",
    b"\x00\x00\x01\xba": "an MPEG programme stream",
}


def _adts(head: bytes) -> bool:
    """Whether the next frame, if it lies within `head`, begins where the first one ends."""
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length > 7 and (len(following) < 2 or following[:1] == b"\xff")
