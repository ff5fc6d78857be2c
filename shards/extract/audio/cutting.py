"""Segments of a recording that is decoded block by block: only what is wanted is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shards.extract.audio.containers.stream import BadContainer

Segment = tuple[float, float | None]  # seconds; None: to the recording's end

LONGEST = 4 * 3600.0  # seconds of sound that are kept at once
MOST = 2**27  # values (samples by channels) that are kept at once: 512 MiB
BLOCK = 2**16  # samples
SLIP = 0.1  # seconds that a segment may end behind its recording: rounded times


def place(segment: Segment | None, samples: int, rate: int) -> tuple[int, int]:
    """The first sample of `segment` and the one behind its last, in a recording of `samples`.

    Raises:
        BadContainer: the recording does not have that segment.
    """
    if segment is None:
        return 0, samples
    start, end = segment
    first = round(max(0.0, start) * rate)
    last = samples if end is None or math.isinf(end) else round(end * rate)
    if last - samples > SLIP * rate or first >= min(last, samples):
        until = "the end" if end is None else f"{end:g} s"
        detail = f"{start:g} s to {until} of a recording of {samples / rate:.3f} s"
        raise BadContainer("outside", f"{detail}; correct start and end")
    return first, min(last, samples)


def check_size(samples: int, rate: int, channels: int) -> None:
    """Raise BadContainer for more samples than a turn can have."""
    seconds = samples / rate
    if seconds > LONGEST or samples * channels > MOST:
        detail = f"{seconds:.0f} s by its header is no turn"
        raise BadContainer("too long", f"{detail}; cut it, or export it again")


class Cutter:
    """Takes blocks [samples, channels] in their order, and keeps `segments` (None: everything)."""

    def __init__(self, segments: Sequence[Segment | None], rate: int, channels: int) -> None:
        self.segments, self.rate, self.channels = segments, rate, channels
        self.count = 0  # samples so far
        ends = [None if one is None else one[1] for one in segments]
        self._first = [0 if one is None else round(max(0.0, one[0]) * rate) for one in segments]
        self._last = [
            math.inf if end is None or math.isinf(end) else round(end * rate) for end in ends
        ]
        self._kept: list[list[np.ndarray]] = [[] for _ in segments]
        self._values = 0

    def feed(self, block: np.ndarray) -> None:
        """The next samples. Raises BadContainer where what is kept would fill the memory."""
        begin, self.count = self.count, self.count + len(block)
        for number, (first, last) in enumerate(zip(self._first, self._last, strict=True)):
            if first < self.count and last > begin:
                part = block[max(0, first - begin) : int(min(last - begin, len(block)))]
                # A copy: a view would hold the whole block in memory.
                self._kept[number].append(part if len(part) == len(block) else part.copy())
                self._values += len(part) * self.channels
                check_size(self._values // self.channels, self.rate, self.channels)

    def pieces(self) -> list[np.ndarray | BadContainer]:
        """The segments, after the last block; an error for one that the recording has not."""
        found: list[np.ndarray | BadContainer] = []
        for segment, kept in zip(self.segments, self._kept, strict=True):
            try:
                place(segment, self.count, self.rate)
            except BadContainer as problem:
                found.append(problem)
                continue
            empty = np.empty((0, self.channels), np.float32)
            found.append(kept[0] if len(kept) == 1 else np.concatenate([empty, *kept]))
        return found
