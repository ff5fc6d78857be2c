"""Parses the two text formats of the IEMOCAP release: label files and transcripts.

Lines are recognised by their form, never by their place in a block: blocks vary in length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from shards.corpora.base import Errors

CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "fea", "dis", "oth", "xxx")
VOTE_WORDS = {
    "anger": "ang",
    "happiness": "hap",
    "excited": "exc",
    "sadness": "sad",
    "neutral": "neu",
    "neutral state": "neu",
    "frustration": "fru",
    "surprise": "sur",
    "fear": "fea",
    "disgust": "dis",
    "other": "oth",
}

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_HEADER = re.compile(
    rf"\[{_NUMBER} - {_NUMBER}\]\s+(\S+)\s+(\S+)\s+\[{_NUMBER}, *{_NUMBER}, *{_NUMBER}\]"
)
_ANNOTATOR = re.compile(r"([CA])-([EFM])\w*:(.*)")
_TRANSCRIPT = re.compile(rf"(\S+) +\[{_NUMBER}-{_NUMBER}\] *:?\s*(.*)")
_RATING = re.compile(r"(val|act|dom)\s+(\d+(?:\.\d+)?)")
_REMEDY = "correct the line, or restore the file from the release"


@dataclass(frozen=True, slots=True)
class LabelledTurn:
    """One block of a label file.

    `start` and `end` are seconds. `vad` is valence, activation and dominance: means over annotators
    as the file has them, some of which are outside the scale of 1 to 5. `votes` has one entry for
    each outside annotator: the codes that they named. `ratings` has the values that the outside
    annotators gave for each of the three.
    """

    name: str
    code: str
    start: float
    end: float
    vad: tuple[float, float, float]
    votes: tuple[tuple[str, ...], ...]
    source: str
    ratings: tuple[tuple[float, ...], ...] = ((), (), ())


def parse_labels(path: Path, errors: Errors) -> list[LabelledTurn]:
    """The turns of a label file in time order; errors are added to `errors`, with their lines."""
    turns: list[LabelledTurn] = []
    block: LabelledTurn | None = None  # the turn that annotator lines belong to
    broken = False  # after a header that could not be read: the lines below it are no errors too
    votes: list[tuple[str, ...]] = []
    ratings: list[str] = []

    def close() -> None:
        nonlocal block, votes, ratings
        if block is not None:
            if not votes:
                errors.add(block.source, f"{block.name} has no C-E line, so no votes; {_REMEDY}")
            turns.append(replace(block, votes=tuple(votes), ratings=_ratings(ratings)))
        block, votes, ratings = None, [], []

    for number, raw in enumerate(read_lines(path), start=1):
        line = raw.strip()
        if not line or line.startswith("%"):
            close()
            broken = False
            continue
        where = f"{path}:{number}"
        annotator = _ANNOTATOR.match(line)
        if annotator is None:
            close()
            block = _header(line, where, errors)
            broken = block is None
        elif block is None:
            if not broken:
                errors.add(where, f"{_short(line)} follows no label line; {_REMEDY}")
        elif annotator[1] == "C" and annotator[2] == "E":  # F and M are the actors' self-ratings
            votes.append(_vote(annotator[3], where, errors))
        elif annotator[2] == "E":
            ratings.append(annotator[3])
    close()
    return sorted(turns, key=lambda turn: (turn.start, turn.end, turn.name))


@dataclass(frozen=True)
class Transcript:
    """A dialogue's transcript: the text of each turn, and the lines that could not be read."""

    path: Path
    texts: dict[str, str] = field(default_factory=dict)
    unread: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> Transcript:
        """Read `path`; a file that is not there is a transcript without turns."""
        if not path.is_file():
            return cls(path)
        texts: dict[str, str] = {}
        unread = []
        for number, raw in enumerate(read_lines(path), start=1):
            line = raw.strip()
            match = _TRANSCRIPT.fullmatch(line)
            if match:
                texts.setdefault(match[1], match[4])
            elif line:
                unread.append(number)
        return cls(path, texts, tuple(unread))

    def why_missing(self) -> str:
        """Why a turn is not in `texts`, for its Problem."""
        if not self.path.is_file():
            return f"there is no file {self.path}"
        if not self.unread:
            return f"no line for it in {self.path}"
        lines = ", ".join(map(str, self.unread[:5]))
        return f"no line for it in {self.path}, where line {lines} cannot be read"


def read_lines(path: Path) -> list[str]:
    """The lines of a text file with any line ends, in UTF-8 or else Windows-1252.

    Some annotators' comments in the release are in Windows-1252.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _header(line: str, where: str, errors: Errors) -> LabelledTurn | None:
    match = _HEADER.fullmatch(line)
    if match is None:
        errors.add(
            where,
            f"{_short(line)} is not `[start - end] turn code [valence, activation, dominance]`; "
            + _REMEDY,
        )
        return None
    start, end, name, code, *vad = match.groups()
    if code not in CODES:
        errors.add(
            where, f"{name}: unknown emotion code {code!r}; known: {', '.join(CODES)}; {_REMEDY}"
        )
        return None
    if float(end) <= float(start):
        errors.add(where, f"{name} ends at {end} s, not after its start at {start} s; {_REMEDY}")
        return None
    valence, activation, dominance = map(float, vad)
    return LabelledTurn(
        name, code, float(start), float(end), (valence, activation, dominance), (), where
    )


def _ratings(lines: list[str]) -> tuple[tuple[float, ...], ...]:
    """Of `A-E` lines, `val 3; act 2; dom  2;`, the values of each; some leave one out."""
    found = [dict(_RATING.findall(line.partition("(")[0])) for line in lines]
    return tuple(
        tuple(float(one[name]) for one in found if name in one) for name in ("val", "act", "dom")
    )


def _vote(fields: str, where: str, errors: Errors) -> tuple[str, ...]:
    # A comment in brackets comes last, and may contain anything, also semicolons.
    words = [word.strip() for word in fields.partition("(")[0].split(";")]
    codes = []
    for word in filter(None, words):
        if word.lower() in VOTE_WORDS:
            codes.append(VOTE_WORDS[word.lower()])
        else:
            known = ", ".join(word.capitalize() for word in VOTE_WORDS)
            errors.add(where, f"unknown category {word!r}; known: {known}; {_REMEDY}")
    if not any(words):
        errors.add(where, f"the annotator names no category; {_REMEDY}")
    return tuple(dict.fromkeys(codes))  # `Neutral; Neutral state;` is one category


def _short(line: str) -> str:
    return repr(line if len(line) <= 90 else line[:87] + "...")
