"""Rows of a tabular corpus: from CSV, TSV, JSONL and Parquet files, or from a list of audio files.

Besides the table's columns, which take precedence, a row has `split` (the key of its file in
`tables`), `folder` (of the file, relative to the root), `stem` (of the file's name) and `row` (from
1). A row that stands for an audio file also has `path` (relative to the root) and `name`.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.corpora.base import CorpusError, Errors, printable
from shards.corpora.table.files import Listing
from shards.corpora.table.formats import Records, read_parquet, read_text
from shards.corpora.table.spec import SUFFIXES, Pattern, TableSpec
from shards.errors import suggestion

TABLE_COLUMNS = ("split", "folder", "stem", "row")
FILE_COLUMNS = (*TABLE_COLUMNS, "path", "name")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its values as they were read, the split of its file ("" if none), `file:line`."""

    values: dict[str, Any]
    split: str
    source: str


def read_rows(spec: TableSpec, root: Path, errors: Errors, notes: list[str]) -> list[Row]:
    """All rows of the corpus, in the order of its files, with the columns of `spec.patterns`.

    Remarks on the files are added to `notes`.

    Raises:
        CorpusError: no file matches, a file cannot be read, or a column is missing.
    """
    groups = spec.tables or spec.audio_files
    rows: list[Row] = []
    listing = Listing(root)
    for split, patterns in groups.items():
        for pattern in patterns:
            files = listing.find(pattern)
            if not files:
                kind = "table" if spec.tables else "audio file"
                raise CorpusError(
                    f"{spec.name}: no {kind} {pattern!r} in {root}; check corpus.root, and the "
                    "paths in the corpus' YAML file"
                )
            if spec.audio_files:
                rows += [
                    Row(_file_values(path, root, split, number), split, printable(path))
                    for number, path in enumerate(files, start=1)
                ]
                continue
            for path in files:
                rows += _table_rows(spec, path, (root, split), errors, notes)
    if spec.audio_files:
        _check_columns(spec, frozenset(FILE_COLUMNS), root)
        notes += listing.notes()
    elif any(set("*?[") & set(pattern) for patterns in groups.values() for pattern in patterns):
        notes += listing.notes(tuple(SUFFIXES))
    if spec.patterns:
        rows = _match_patterns(spec.patterns, rows, errors)
    return rows


def needed_columns(spec: TableSpec) -> set[str]:
    """The columns that the tables must have for `spec`, groups of its patterns left out."""
    needed = {column for _, source in spec.fields.sources() for column in source.columns}
    if spec.fields.votes is not None:
        needed.add(spec.fields.votes.column)
    needed |= {pattern.column for pattern in spec.patterns}
    return needed - {group for pattern in spec.patterns for group in pattern.groups}


def _table_rows(
    spec: TableSpec, path: Path, place: tuple[Path, str], errors: Errors, notes: list[str]
) -> Iterator[Row]:
    root, split = place
    kind = spec.format or SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise CorpusError(
            f"{path}: no format is known for the suffix {path.suffix!r}; known suffixes: "
            f"{', '.join(SUFFIXES)}; rename the file, or set `format` in the corpus' YAML file"
        )
    records: Records
    try:
        if kind == "parquet":
            columns, records = read_parquet(path, needed_columns(spec), spec)
        else:
            columns, records = read_text(path, kind, spec, errors, notes)
    except UnicodeError as error:
        where = f"byte {error.start} is" if isinstance(error, UnicodeDecodeError) else "it is"
        raise CorpusError(
            f"{path}: {where} not {spec.encoding}; set `encoding` in the corpus' "
            "YAML file (cp1252, utf-16 …)"
        ) from None
    except (OSError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from None
    if not records and not errors.lines:
        raise CorpusError(f"{path} has no rows: restore the file, or take it out of `tables`")
    if records:
        _check_columns(spec, frozenset(columns) | frozenset(TABLE_COLUMNS), path)
    own = {"split": split, "folder": path.parent.relative_to(root).as_posix(), "stem": path.stem}
    for number, (values, source) in enumerate(records, start=1):
        yield Row({**own, "row": number, **values}, split, printable(source))


def _check_columns(spec: TableSpec, known: frozenset[str], where: Path) -> None:
    missing = sorted(needed_columns(spec) - known)
    if missing:
        columns = sorted(known | {group for pattern in spec.patterns for group in pattern.groups})
        raise CorpusError(
            f"{spec.name}: {where} has no column {', '.join(map(repr, missing))}; it has: "
            f"{', '.join(columns)}{suggestion(missing[0], columns)}; change `fields` in the "
            "corpus' YAML file"
        )


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
            matched.append(Row({**row.values, **groups}, row.split, row.source))
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
