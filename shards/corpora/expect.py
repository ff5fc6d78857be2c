"""The counts of a known release, to compare a user's copy with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field, field_validator

from shards.configfile import Config
from shards.corpora.utterance import Utterance
from shards.corpora.words import code_of


class Release(Config):
    """What is known of one release of a corpus; what is left out is not compared.

    `classes` counts rows by emotion (a code or a word), `splits` by official part.
    """

    release: str = ""
    rows: int | None = Field(default=None, ge=0)
    speakers: int | None = Field(default=None, ge=0)
    classes: dict[str, int] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)

    @field_validator("classes")
    @classmethod
    def _by_code(cls, classes: dict[str, int]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for word, count in classes.items():
            counts[code_of(word)] += count
        return dict(counts)


def compare(utterances: Sequence[Utterance], releases: Sequence[Release]) -> list[str]:
    """Notes on how a corpus compares with its releases, or with the one that it is most like.

    Returns:
        One note if every count is as published, otherwise a warning for each that differs; none
        where nothing is known.
    """
    if not releases:
        return []
    found = Release(
        rows=len(utterances),
        speakers=len({one.speaker for one in utterances}),
        classes=Counter(one.label for one in utterances),
        splits=Counter(one.split for one in utterances if one.split is not None),
    )
    # Counts that differ first; where all do, the number of rows tells releases apart.
    differing = [
        (len(lines), abs((one.rows or 0) - len(utterances)), number, lines)
        for number, one in enumerate(releases)
        for lines in [[*_differences(found, one)]]
    ]
    _, _, number, lines = min(differing)
    name = releases[number].release or "the known release"
    others = [one.release for one in releases if one.release and one.release != name]
    told = f" (known: {', '.join([*others, name])})" if others else ""
    if not lines:
        return [f"every count equals that of {name}{told}"]
    return [
        f"WARNING: the counts differ from those of {name}{told}: {'; '.join(lines)}; "
        "restore what is missing, or read on if this copy is meant to differ"
    ]


def _differences(found: Release, known: Release) -> Iterator[str]:
    for what in ("rows", "speakers"):
        here, there = getattr(found, what), getattr(known, what)
        if there is not None and here != there:
            yield f"{here:,} {what}, not {there:,}"
    yield from _counts(found.classes, known.classes, "of class")
    yield from _counts(found.splits, known.splits, "in")


def _counts(found: Mapping[str, int], known: Mapping[str, int], kind: str) -> Iterator[str]:
    for name in known and sorted({*found, *known}):
        if found.get(name, 0) != known.get(name, 0):
            yield f"{found.get(name, 0):,} {kind} {name}, not {known.get(name, 0):,}"
