"""Turns the rows of a tabular corpus into utterances: paths, labels, votes, times, splits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from shards.corpora.attributes import Attribute, attributes_of
from shards.corpora.base import (
    MISSING_AUDIO,
    MISSING_TRANSCRIPT,
    NOT_UNICODE,
    Errors,
    FileIndex,
    Problem,
    printable,
)
from shards.corpora.embedded import Embedded
from shards.corpora.table.formats.text import read_text
from shards.corpora.table.label_words import LabelWords
from shards.corpora.table.layout import SPLITS
from shards.corpora.table.rows import Row
from shards.corpora.table.spec import Source, TableSpec, Votes
from shards.corpora.table.times import TO_THE_END, seconds
from shards.corpora.utterance import NO_MAJORITY, Utterance
from shards.errors import suggestion

KNOWN_BAD = "known to be bad"
MOST_RATERS = 1000
# Byte order marks and marks of the writing direction, which some transcripts begin with.
_NO_MARKS = dict.fromkeys([0xFEFF, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])

Order = tuple[float, float, int]  # turn number, start, place in the table


@dataclass(frozen=True)
class Places:
    """Where paths of a corpus begin, and whether those of recordings may lead out of there."""

    root: Path
    audio_root: Path | None = None
    absolute: bool = False


class RowReader:
    """Turns rows into utterances; errors and problems are collected."""

    def __init__(self, spec: TableSpec, places: Places, errors: Errors) -> None:
        self.spec = spec
        self.root = places.root
        self.errors = errors
        self.problems: list[Problem] = []
        self.bad_audio: list[Problem] = []
        self.words = LabelWords(spec.labels, spec.exact_labels)
        self._absolute = places.absolute
        self._audio_root = Path(os.path.abspath(self.root / (places.audio_root or "")))
        self._files = FileIndex()
        self._sources: dict[str, str] = {}  # utterance -> file:line
        self._votes_seen: dict[tuple[str, ...], tuple[str, ...]] = {}

    def read(self, row: Row, number: int) -> tuple[Utterance, Order] | None:
        """The row's utterance and its order in the dialogue; None if an error makes it unusable."""
        try:
            utterance, order = self._read(row, number)
        except _BadValue as error:
            self.errors.add(row.source, str(error))
            return None
        facts = ("id", "text", "speaker", "session", "dialogue")
        broken: dict[str, Any] = {
            name: printable(value)
            for name in facts
            if (value := getattr(utterance, name)) is not None
            and not value.isascii()  # which is quick to see
            and printable(value) != value
        }
        if broken:  # no file of ours could hold it
            what = f"{', '.join(broken)} at {row.source}: a name or text that is not UTF-8"
            self.problems.append(Problem(NOT_UNICODE, printable(utterance.id), what))
        return (replace(utterance, **broken) if broken else utterance), order

    def _read(self, row: Row, number: int) -> tuple[Utterance, Order]:
        fields = self.spec.fields
        for column, source in self.spec.columns.items():
            row.values[column] = _value(column, source, row)
        name = _required("id", fields.id, row)
        first = self._sources.setdefault(name, row.source)
        if first is not row.source:
            raise _BadValue(f"the id {name!r} stands at {first} as well; ids must differ")
        label = self.words.code(_value("label", fields.label, row), row.source)
        votes: tuple[tuple[str, ...], ...] = ((label,),) if label != NO_MAJORITY else ()
        if fields.votes is not None:
            votes = self._votes(fields.votes, row)
        turn = _seconds("turn", fields.turn, row)
        if fields.turn is not None and turn is None:
            raise _BadValue(f"the turn of {name!r} is empty")
        start = _seconds("start", fields.start, row)
        end = _seconds("end", fields.end, row)
        audio = self._audio(name, row)
        cell = audio if isinstance(audio, Embedded) else None
        utterance = Utterance(
            id=name,
            audio=audio.file if isinstance(audio, Embedded) else audio,
            text=self._text(name, row),
            label=label,
            votes=votes,
            speaker=_required("speaker", fields.speaker, row),
            session=_required("session", fields.session, row),
            dialogue=_required("dialogue", fields.dialogue or fields.id, row),
            turn=0,
            start=start,
            end=None if end == TO_THE_END else end,
            split=_split(fields.split, row),
            source=row.source,
            embedded=(cell.column, cell.row) if cell is not None else None,
            attributes=self._attributes(row),
        )
        return utterance, (turn or 0.0, start or 0.0, number)

    def _audio(self, name: str, row: Row) -> Path | Embedded | None:
        source = self.spec.fields.audio
        if source is None:
            return None
        cell = row.values.get(source.column or "")
        if isinstance(cell, Embedded):
            return cell
        value = _value("audio", source, row)
        if value is None:
            self.problems.append(Problem(MISSING_AUDIO, name, f"no path at {row.source}"))
            return None
        if name in self.spec.bad_audio:
            self.bad_audio.append(Problem(KNOWN_BAD, name, self.spec.bad_audio[name]))
        path = Path(self._inside("audio", value, self._audio_root, self._absolute))
        there = self._files.find(path)
        plain = value.strip().replace("\\", "/")
        if there is None and plain != value:  # blanks around it, or written under Windows
            path = Path(self._inside("audio", plain, self._audio_root, self._absolute))
            there = self._files.find(path)
        if there is None:
            what = f"there is no file {printable(path)}"
            self.problems.append(Problem(MISSING_AUDIO, name, what))
        return there or path

    def _inside(self, field: str, value: str, root: Path, anywhere: bool = False) -> str:
        """The full path of `value`, which is told from `root`.

        Raises:
            _BadValue: it leads out of there, or is no path.
        """
        if "\0" in value:
            raise _BadValue(f"the {field} path {value!r} holds a byte that no name can have")
        if value[0] not in "./" and "//" not in value and "/." not in value:
            return f"{root}/{value}".replace("//", "/")  # almost all
        text = os.path.normpath(os.path.join(root, value))
        if anywhere:
            return text
        # The root may be a link, and the table's paths those of the real folder.
        for inside in (str(root), _real(root)):
            if text == inside or text.startswith(inside.rstrip("/") + "/"):
                return os.path.join(root, os.path.relpath(text, inside))
        above = os.path.commonpath((root, text))
        remedy = f"set corpus.root={above}, a folder above both, and name the tables from there"
        if os.path.isabs(value):
            remedy += ", or corpus.absolute_paths=true if recordings may lie anywhere"
        else:
            remedy += "; for paths that begin at the table's folder, `audio` is '{folder}/{COLUMN}'"
        raise _BadValue(
            f"the {field} path {value!r} leads out of the corpus' root {root}; {remedy}"
        )

    def _text(self, name: str, row: Row) -> str | None:
        source = self.spec.fields.text
        if source is None:
            return None
        value = _value("text", source, row)
        if source.file is not None and value is not None:
            value = self._content(name, value)
        elif value is None and not (self.problems and self.problems[-1].where == name):
            self.problems.append(Problem(MISSING_TRANSCRIPT, name, f"no text at {row.source}"))
        return value

    def _content(self, name: str, value: str) -> str | None:
        """What the text file at path `value` holds, less marks of direction; None if it is gone."""
        path = self._files.find(Path(self._inside("text", value, self.root)))
        try:
            if path is None:
                raise FileNotFoundError(f"there is no file {printable(value)}")
            text = read_text(path, self.spec.encoding)
            return (text if text.isascii() else text.translate(_NO_MARKS)).strip()
        except (OSError, UnicodeError) as error:
            self.problems.append(Problem(MISSING_TRANSCRIPT, name, str(error)))
            return None

    def _attributes(self, row: Row) -> tuple[Attribute, ...] | None:
        try:
            return attributes_of(self.spec.attributes, row.values)
        except ValueError as error:
            raise _BadValue(str(error)) from None

    def _votes(self, votes: Votes, row: Row) -> tuple[tuple[str, ...], ...]:
        if votes.column is None:
            return tuple(
                vote
                for column, label in votes.counts.items()
                for vote in [(self.words.code(label, row.source),)] * _count(column, row)
            )
        value = row.values.get(votes.column)
        if value is None or value == "":
            return ()
        annotators = value if isinstance(value, list) else str(value).split(votes.annotators)
        result = []
        for annotator in annotators:
            named = annotator if isinstance(annotator, list) else [annotator]
            words = [
                word.strip()
                for item in named
                if item is not None
                for word in str(item).split(votes.categories)
            ]
            codes = dict.fromkeys(self.words.code(word, row.source) for word in words if word)
            codes.pop(NO_MAJORITY, None)
            if codes:
                # One object for all turns: few votes differ, and a corpus may have millions.
                vote = tuple(codes)
                result.append(self._votes_seen.setdefault(vote, vote))
        return tuple(result)


class _BadValue(Exception):
    """A value that makes its row unusable; the message has no place, the caller adds it."""


def _value(field: str, source: Source, row: Row) -> str | None:
    """The field's text, or None where a cell that it needs is empty."""
    pieces: list[str] = []
    for is_column, text in source.parts:
        piece = row.values.get(text) if is_column else text
        if piece is None or piece == "":
            return None
        if type(piece) is str:
            pieces.append(piece)
            continue
        if isinstance(piece, list | Mapping | bytes | Embedded):
            raise _BadValue(f"{field}: column {text!r} holds {type(piece).__name__}, not text")
        pieces.append(str(piece))
    value = pieces[0] if len(pieces) == 1 else "".join(pieces)
    if not source.map:
        return value
    if value not in source.map:
        raise _BadValue(f"{field}: {value!r} is not in its map; known: {', '.join(source.map)}")
    return source.map[value]


def _count(column: str, row: Row) -> int:
    value = str(row.values.get(column) or "0").strip()
    try:
        count = float(value)
        if count == int(count) and 0 <= count <= MOST_RATERS:
            return int(count)
    except ValueError:
        pass
    raise _BadValue(f"votes: {value!r} in column {column!r} is no number of raters")


@lru_cache(maxsize=4)
def _real(root: Path) -> str:
    return os.path.realpath(root)


def _required(field: str, source: Source, row: Row) -> str:
    value = (_value(field, source, row) or "").strip()
    if not value:
        raise _BadValue(f"{field} is empty (from {', '.join(source.columns) or 'a constant'})")
    return value


def _seconds(field: str, source: Source | None, row: Row) -> float | None:
    """A number, or a time of one of the forms of `times.seconds`."""
    value = _value(field, source, row) if source is not None else None
    if value is None:
        return None
    try:
        return seconds(value)
    except ValueError:
        raise _BadValue(
            f"{field}: {value!r} is neither a number nor hours:minutes:seconds"
        ) from None


def _split(source: Source | None, row: Row) -> str | None:
    value = (_value("split", source, row) or "").strip() if source is not None else row.split
    if not value:  # a row of no official part
        return None
    if value.lower() not in SPLITS:
        raise _BadValue(
            f"unknown split {value!r}; known: {', '.join(SPLITS)}{suggestion(value, SPLITS)}"
        )
    return SPLITS[value.lower()]
