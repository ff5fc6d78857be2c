"""Turns the rows of a tabular corpus into utterances: paths, labels, votes, times, splits."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from shards.corpora.base import (
    MISSING_AUDIO,
    MISSING_TRANSCRIPT,
    Errors,
    FileIndex,
    Problem,
)
from shards.corpora.table_rows import Row
from shards.corpora.table_spec import SPLITS, Source, TableSpec, Votes
from shards.corpora.utterance import NO_MAJORITY, Utterance

Order = tuple[float, float, int]  # turn number, start, place in the table


class RowReader:
    """Turns rows into utterances; errors and problems are collected."""

    def __init__(self, spec: TableSpec, root: Path, errors: Errors) -> None:
        self.spec = spec
        self.root = root
        self.errors = errors
        self.problems: list[Problem] = []
        self._files = FileIndex()
        self._sources: dict[str, str] = {}  # utterance -> file:line

    def read(self, row: Row, number: int) -> tuple[Utterance, Order] | None:
        """The row's utterance and its order in the dialogue; None if an error makes it unusable."""
        try:
            return self._read(row, number)
        except _BadValue as error:
            self.errors.add(row.source, str(error))
            return None

    def _read(self, row: Row, number: int) -> tuple[Utterance, Order]:
        fields = self.spec.fields
        name = _required("id", fields.id, row)
        first = self._sources.setdefault(name, row.source)
        if first is not row.source:
            raise _BadValue(f"the id {name!r} stands at {first} as well; ids must differ")
        label = self._code(_required("label", fields.label, row))
        votes: tuple[tuple[str, ...], ...] = ((label,),) if label != NO_MAJORITY else ()
        if fields.votes is not None:
            votes = self._votes(fields.votes, row)
        turn = _number("turn", fields.turn, row)
        if fields.turn is not None and turn is None:
            raise _BadValue(f"the turn of {name!r} is empty")
        start = _number("start", fields.start, row)
        utterance = Utterance(
            id=name,
            audio=self._audio(name, row),
            text=self._text(name, row),
            label=label,
            votes=votes,
            speaker=_required("speaker", fields.speaker, row),
            session=_required("session", fields.session, row),
            dialogue=_required("dialogue", fields.dialogue or fields.id, row),
            turn=0,
            start=start,
            end=_number("end", fields.end, row),
            split=_split(fields.split, row),
            source=row.source,
        )
        return utterance, (turn or 0.0, start or 0.0, number)

    def _audio(self, name: str, row: Row) -> Path | None:
        source = self.spec.fields.audio
        if source is None:
            return None
        value = _value("audio", source, row)
        if value is None:
            self.problems.append(Problem(MISSING_AUDIO, name, f"no path at {row.source}"))
            return None
        text = os.path.normpath(os.path.join(self.root, value))
        if os.path.commonpath((self.root, text)) != str(self.root):
            raise _BadValue(f"the audio path {value!r} leads out of the corpus' root {self.root}")
        path = Path(text)
        if path not in self._files:
            self.problems.append(Problem(MISSING_AUDIO, name, f"there is no file {path}"))
        return path

    def _text(self, name: str, row: Row) -> str | None:
        source = self.spec.fields.text
        if source is None:
            return None
        value = _value("text", source, row)
        if value is None and not (self.problems and self.problems[-1].where == name):
            self.problems.append(Problem(MISSING_TRANSCRIPT, name, f"no text at {row.source}"))
        return value

    def _code(self, word: str) -> str:
        code = self.spec.labels.get(word.strip())
        if code is None:
            raise _BadValue(
                f"unknown label {word!r}; known: {', '.join(self.spec.labels)}; correct it, or add "
                "it to `labels` in the corpus' YAML file"
            )
        return code

    def _votes(self, votes: Votes, row: Row) -> tuple[tuple[str, ...], ...]:
        value = row.values.get(votes.column)
        if value is None or value == "":
            return ()
        annotators = value if isinstance(value, list) else str(value).split(votes.annotators)
        result = []
        for annotator in annotators:
            named = annotator if isinstance(annotator, list) else [annotator]
            words = [word.strip() for item in named for word in str(item).split(votes.categories)]
            codes = dict.fromkeys(self._code(word) for word in words if word)
            codes.pop(NO_MAJORITY, None)
            if codes:
                result.append(tuple(codes))
        return tuple(result)


class _BadValue(Exception):
    """A value that makes its row unusable; the message has no place, the caller adds it."""


def _value(field: str, source: Source, row: Row) -> str | None:
    """The field's text, or None where a cell that it needs is empty."""
    pieces = []
    for is_column, text in source.parts:
        piece = row.values.get(text) if is_column else text
        if piece is None or piece == "":
            return None
        if isinstance(piece, list | Mapping | bytes):
            raise _BadValue(f"{field}: column {text!r} holds {type(piece).__name__}, not text")
        pieces.append(str(piece))
    value = "".join(pieces)
    if not source.map:
        return value
    if value not in source.map:
        raise _BadValue(f"{field}: {value!r} is not in its map; known: {', '.join(source.map)}")
    return source.map[value]


def _required(field: str, source: Source, row: Row) -> str:
    value = (_value(field, source, row) or "").strip()
    if not value:
        raise _BadValue(f"{field} is empty (from {', '.join(source.columns) or 'a constant'})")
    return value


def _number(field: str, source: Source | None, row: Row) -> float | None:
    """A number, or `hours:minutes:seconds` in seconds (with a comma as subtitles write it)."""
    value = _value(field, source, row) if source is not None else None
    if value is None:
        return None
    try:
        number = 0.0
        for part in value.strip().split(":"):
            number = number * 60 + float(part.replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _BadValue(f"{field}: {value!r} is neither a number nor hours:minutes:seconds")
    return number


def _split(source: Source | None, row: Row) -> str | None:
    value = _required("split", source, row) if source is not None else row.split
    if not value:
        return None
    if value.lower() not in SPLITS:
        raise _BadValue(f"unknown split {value!r}; known: {', '.join(SPLITS)}")
    return SPLITS[value.lower()]
