"""Rows of a tabular corpus: from its tables, or from a list of audio files.

Besides the table's columns, which take precedence, a row has `split` (the key of its file in
`tables`), `folder` (of the file, relative to the root), `stem` (of the file's name) and `row` (from
1). A row that stands for an audio file also has `path` (relative to the root) and `name`.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.corpora.base import CorpusError, Errors, printable
from shards.corpora.table.files import Listing
from shards.corpora.table.formats import FORMATS
from shards.corpora.table.layout import SUFFIXES, Layout, Pattern, Request, Table
from shards.errors import suggestion

TABLE_COLUMNS = ("split", "folder", "stem", "row")
FILE_COLUMNS = (*TABLE_COLUMNS, "path", "name")


@dataclass(slots=True)
class Row:
    """One row: its values as they were read, the split of its file ("" if none), `file:line`."""

    values: dict[str, Any]
    split: str
    source: str


@dataclass(frozen=True)
class Reading:
    """What all tables of one corpus have in common while they are read.

    `name` is the corpus' and `words` are the labels of its spec.
    """

    name: str
    root: Path
    words: Collection[str]
    errors: Errors
    notes: list[str]

    def tables(self, layout: Layout, needed: set[str], optional: bool = False) -> list[Row]:
        """All rows of `layout.tables`, with the columns of its patterns; only those `where` says.

        Args:
            optional: whether a file that is not there is only a remark.

        Raises:
            CorpusError: no file matches, a file cannot be read, or a column is missing.
        """
        groups = layout.tables
        needed = _wanted(layout, needed)
        rows: list[Row] = []
        listing = Listing(self.root)
        for split, patterns in groups.items():
            for pattern in patterns:
                for path in self._find(listing, pattern, "table", optional):
                    rows += self._rows(layout, path, split, needed)
        if any(set("*?[") & set(pattern) for patterns in groups.values() for pattern in patterns):
            self.notes.extend(listing.notes(tuple(SUFFIXES)))
        return self._chosen(layout, rows)

    def audio_files(self, layout: Layout, groups: Mapping[str, tuple[str, ...]],
                    needed: set[str]) -> list[Row]:  # fmt: skip
        """A row for each file of `groups`, as `tables`."""
        rows: list[Row] = []
        listing = Listing(self.root)
        for split, patterns in groups.items():
            for pattern in patterns:
                files = self._find(listing, pattern, "audio file")
                rows += [
                    Row(_file_values(path, self.root, split, number), split, printable(path))
                    for number, path in enumerate(files, start=1)
                ]
        self._check_columns(layout, _wanted(layout, needed), frozenset(FILE_COLUMNS), self.root)
        self.notes.extend(listing.notes())
        return self._chosen(layout, rows)

    def _find(
        self, listing: Listing, pattern: str, kind: str, optional: bool = False
    ) -> list[Path]:
        files = listing.find(pattern)
        if not files and optional:
            self.notes.append(f"there is no {pattern}, which may be missing")
        elif not files:
            raise CorpusError(
                f"{self.name}: no {kind} {pattern!r} in {self.root}; check corpus.root, and the "
                "paths in the corpus' YAML file"
            )
        return files

    def _rows(self, layout: Layout, path: Path, split: str, needed: set[str]) -> Iterable[Row]:
        columns, records = self._read(layout, path, needed)
        if not records and not self.errors.lines:
            raise CorpusError(f"{path} has no rows: restore the file, or take it out of `tables`")
        if records:
            known = frozenset(columns) | frozenset(TABLE_COLUMNS)
            self._check_columns(layout, needed, known, path)
        folder = path.parent.relative_to(self.root).as_posix()
        own = {"split": split, "folder": folder, "stem": path.stem, "row": 0}
        own = {name: value for name, value in own.items() if name in needed - columns}
        for number, (values, source) in enumerate(records, start=1):
            if own:
                values |= own
                if "row" in own:
                    values["row"] = number
            yield Row(values, split, source)

    def _read(self, layout: Layout, path: Path, needed: set[str]) -> Table:
        suffix = path.suffix.lower()
        if suffix == ".gz":
            suffix = Path(path.stem).suffix.lower()
        kind = layout.format or SUFFIXES.get(suffix)
        if kind is None:
            raise CorpusError(
                f"{path}: no format is known for the suffix {path.suffix!r}; known suffixes: "
                f"{', '.join(SUFFIXES)}; rename the file, or set `format` in the corpus' YAML file"
            )
        request = Request(path, layout, needed, self.words, self.errors, self.notes)
        try:
            return FORMATS[kind](request)
        except UnicodeError as error:
            where = f"byte {error.start} is" if isinstance(error, UnicodeDecodeError) else "it is"
            told = layout.encoding
            raise CorpusError(
                f"{path}: {where} not {told if isinstance(told, str) else ' or '.join(told)}; set "
                "`encoding` in the corpus' YAML file (cp1252, utf-16 …)"
            ) from None
        except (OSError, EOFError, csv.Error) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from None

    def _check_columns(
        self, layout: Layout, needed: set[str], known: frozenset[str], where: Path
    ) -> None:
        missing = sorted(needed - known)
        if missing:
            columns = sorted(known | layout.groups)
            raise CorpusError(
                f"{self.name}: {where} has no column {', '.join(map(repr, missing))}; it has: "
                f"{', '.join(columns)}{suggestion(missing[0], columns)}; change `fields` in the "
                "corpus' YAML file"
            )

    def _chosen(self, layout: Layout, rows: list[Row]) -> list[Row]:
        if layout.patterns:
            rows = _match_patterns(layout.patterns, rows, self.errors)
        if not layout.where:
            return rows
        conditions = [(column, re.compile(regex)) for column, regex in layout.where.items()]
        chosen = [
            row
            for row in rows
            if all(
                regex.search(str(value)) if (value := row.values.get(column)) is not None else False
                for column, regex in conditions
            )
        ]
        told = ", ".join(f"{column} {regex!r}" for column, regex in layout.where.items())
        self.notes.append(f"{len(chosen)} of {len(rows)} rows fit `where` ({told})")
        return chosen


def _wanted(layout: Layout, needed: set[str]) -> set[str]:
    """The columns that the tables must have: `needed` and those of conditions and patterns."""
    columns = {pattern.column for pattern in layout.patterns}
    return (needed | columns | layout.where.keys()) - layout.groups


def _file_values(path: Path, root: Path, split: str, number: int) -> dict[str, Any]:
    relative = path.relative_to(root)
    return {
        "split": split,
        "folder": relative.parent.as_posix(),
        "stem": path.stem,
        "row": number,
        "path": relative.as_posix(),
        "name": path.name,
    }


def _match_patterns(patterns: tuple[Pattern, ...], rows: list[Row], errors: Errors) -> list[Row]:
    compiled = [(pattern, re.compile(pattern.regex)) for pattern in patterns]
    matched = []
    for row in rows:
        groups = _groups(compiled, row, errors)
        if groups is not None:
            row.values |= groups
            matched.append(row)
    return matched


def _groups(
    compiled: list[tuple[Pattern, re.Pattern[str]]], row: Row, errors: Errors
) -> Mapping[str, str | None] | None:
    groups: dict[str, str | None] = {}
    for pattern, regex in compiled:
        value = groups.get(pattern.column, row.values.get(pattern.column))
        match = regex.search(str(value)) if value is not None else None
        # A decomposed ü is a letter and a combining mark, and a mark does not match \w.
        if match is None and value is not None:
            match = regex.search(unicodedata.normalize("NFC", str(value)))
        if match is None:
            errors.add(
                row.source,
                f"{pattern.column} {value!r} does not fit the pattern {pattern.regex!r}; "
                "change the pattern, or narrow the list of files",
            )
            return None
        groups |= match.groupdict()
    return groups
