"""What the walkers of all containers share: what they find, and what they refuse."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

Data = bytes | mmap.mmap

# A length from here on is no length: pipes get 0xFFFFFFFF (ffmpeg), 0x80000000 (arecord),
# 0x7FFFF000 (SoX, WAV) and 0x7F000000 (SoX, AIFF) from writers that cannot seek back.
UNKNOWN = 0x7F000000
# Bytes that may lack at the end. Some writers count their header twice; this is 1 ms of sound.
SLACK = 64


class BadContainer(Exception):
    """A file that cannot be used; `kind` is one of `shards.extract.audio.Kind`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: the byte behind it, its bytes if they were mended, the rest as in `Contents`."""

    end: int
    mended: bytes | None = None
    samples: int | None = None
    remark: tuple[str, str] | None = None


def short(promised: int, there: int) -> BadContainer:
    """The error of a file with fewer bytes than its header promises."""
    return BadContainer(
        "truncated",
        f"the header promises {promised} bytes, {there} are there; copy the file again",
    )
