"""Times in tables: reading them, and deciding whether they are places in a recording."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shards.corpora.base import BAD_TIMES, Problem, listing
from shards.corpora.utterance import LONG, WHOLE, Utterance

TO_THE_END = -1.0  # Kaldi's notation for the end of the recording

_MISSING = ("", "nat", "nan", "none", "null", "<na>")
_NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?)\s*(s|sec|ms)?", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:(?P<days>[+-]?\d+)\s*days?,?\s*)?\+?"
    r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:[.,]\d*)?))?"
)


def seconds(text: str) -> float | None:
    """A time in seconds; None for `NaT` and other marks of a missing value.

    Known forms are `1.5`, `1,5`, `1.5s`, `1500ms`, `0:01.5`, `00:00:01,500` (subtitles) and
    `0 days 00:00:01.500000` (pandas, audformat).

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text.lower() in _MISSING:
        return None
    if number := _NUMBER.fullmatch(text):
        value = float(number[1].replace(",", "."))
        return _finite(value / 1000 if (number[2] or "").lower() == "ms" else value)
    clock = _CLOCK.fullmatch(text)
    if clock is None or (clock["days"] is None and clock["minutes"] is None):
        raise ValueError(text)
    groups = clock.groupdict(default="0")
    parts = {name: float(part.replace(",", ".")) for name, part in groups.items()}
    # pandas writes minus one second as `-1 days +23:59:59`: only the days are negative.
    hours = parts["days"] * 24 + parts["hours"]
    return _finite((hours * 60 + parts["minutes"]) * 60 + parts["seconds"])


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return value


def cut_segments(
    utterances: Sequence[Utterance], wanted: bool | None, problems: list[Problem]
) -> list[Utterance]:
    """Utterances with their `segment`, if start and end are places in the recording.

    Args:
        wanted: whether they are; None means that they are if rows with different times share a
            recording. False also keeps a recording from being rejected as one that lacks its cut.
        problems: turns whose segment cannot be cut are added to it.
    """
    if wanted is False:
        timed = [one.start is not None or one.end is not None for one in utterances]
        return [
            replace(one, segment=WHOLE) if one.audio is not None and has_times else one
            for one, has_times in zip(utterances, timed, strict=True)
        ]
    if wanted is None and not _share_recordings(utterances):
        return [*utterances]
    cut = []
    for one in utterances:
        start = max(0.0, one.start or 0.0)  # some corpora start a little before their recording
        if one.audio is not None and (start > 0 or one.end is not None):
            if one.end is not None and one.end <= start:
                what = (
                    f"it ends at {one.end:g} s, not after its start at {start:g} s ({one.source})"
                )
                problems.append(Problem(BAD_TIMES, one.id, what))
            one = replace(one, segment=(start, one.end))
        cut.append(one)
    return cut


def _share_recordings(utterances: Sequence[Utterance]) -> bool:
    times: dict[tuple[Path, tuple[str, int] | None], set[tuple[float, float | None]]] = defaultdict(
        set
    )
    for one in utterances:
        if one.audio is not None:
            times[one.audio, one.embedded].add((one.start or 0.0, one.end))
    return any(len(places) > 1 for places in times.values())


def time_notes(utterances: Sequence[Utterance]) -> list[str]:
    """Warnings about odd times that do not change what is read."""
    timed = [(one, one.end - (one.start or 0.0)) for one in utterances if one.end is not None]
    notes = []
    backwards = [_line(one) for one, length in timed if length <= 0]
    if backwards:
        notes.append(
            f"WARNING: {len(backwards)} turns do not end after their start:\n{listing(backwards)}"
        )
    long = [_line(one) for one, length in timed if length > LONG]
    if long:
        notes.append(
            f"WARNING: {len(long)} turns are longer than {LONG:g} s by their times:\n"
            + listing(long)
        )
    return notes


def _line(one: Utterance) -> str:
    start, end = one.start or 0.0, one.end or 0.0
    return f"{one.id}: {start:.2f} to {end:.2f} s ({one.source})"
