"""Rows of a tabular corpus: from CSV, TSV, JSONL and Parquet files, or from a list of audio files.

Besides a table's own columns (which win), a row has `split` (the key that its file stands under),
`folder` (of the file, relative to the root), `stem` (of the file's name) and `row` (from 1); a row
made of an audio file has `path` (relative to the root) and `name` as well.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.corpora.base import CorpusError, Errors
from shards.corpora.table_spec import SUFFIXES, Format, Pattern, TableSpec

TABLE_COLUMNS = ("split", "folder", "stem", "row")
FILE_COLUMNS = (*TABLE_COLUMNS, "path", "name")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its values as they were read, its file's split ("" for none), and `file:line`."""

    values: dict[str, Any]
    split: str
    source: str


def read_rows(spec: TableSpec, root: Path, errors: Errors) -> list[Row]:
    """All rows of the corpus, in the order of its files, with the columns of `spec.patterns`.

    Raises:
        CorpusError: no file fits, a file cannot be read, or a column is not there.
    """
    groups = spec.tables or spec.audio_files
    rows: list[Row] = []
    for split, patterns in groups.items():
        for pattern in patterns:
            files = sorted(
                path
                for path in root.glob(pattern)
                if path.is_file() and not path.name.startswith(".")
            )
            if not files:
                kind = "table" if spec.tables else "audio file"
                raise CorpusError(
                    f"{spec.name}: no {kind} {pattern!r} in {root}; check corpus.root, and the "
                    "paths in the corpus' YAML file"
                )
            if spec.audio_files:
                rows += [
                    Row(_file_values(path, root, split, number), split, str(path))
                    for number, path in enumerate(files, start=1)
                ]
                continue
            for path in files:
                rows += _table_rows(spec, path, root, split, errors)
    if spec.audio_files:
        _check_columns(spec, frozenset(FILE_COLUMNS), root)
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
    spec: TableSpec, path: Path, root: Path, split: str, errors: Errors
) -> Iterator[Row]:
    kind = spec.format or SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise CorpusError(
            f"{path}: the suffix {path.suffix!r} tells no format; known: {', '.join(SUFFIXES)}; "
            "or set `format` in the corpus' YAML file"
        )
    needed = needed_columns(spec)
    try:
        if kind == "parquet":
            found, records = _parquet(path, needed)
        else:
            found, records = _text_table(path, kind, spec.encoding, errors)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: byte {error.start} is not {spec.encoding}; set `encoding` in the corpus' "
            "YAML file (cp1252, utf-16 …)"
        ) from None
    except (OSError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from None
    if not records and not errors.lines:
        raise CorpusError(f"{path} has no rows")
    if records:
        _check_columns(spec, frozenset(found) | frozenset(TABLE_COLUMNS), path)
    own = {"split": split, "folder": path.parent.relative_to(root).as_posix(), "stem": path.stem}
    for number, (values, source) in enumerate(records, start=1):
        yield Row({**own, "row": number, **values}, split, source)


Records = list[tuple[dict[str, Any], str]]  # values, source


def _text_table(
    path: Path, kind: Format, encoding: str, errors: Errors
) -> tuple[set[str], Records]:
    # A byte order mark, as Excel writes it, would become part of the first column's name.
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    with path.open(encoding=encoding, newline="") as file:
        if kind == "jsonl":
            return _jsonl(path, file, errors)
        reader = csv.reader(file, delimiter="\t" if kind == "tsv" else ",")
        header = [name.strip() for name in next(reader, [])]
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise CorpusError(f"{path}:1: the columns {', '.join(twice)} stand there twice")
        records: Records = []
        line = reader.line_num + 1
        for cells in reader:  # a quoted cell may span lines: name the first
            if any(cells) and len(cells) != len(header):
                errors.add(f"{path}:{line}", f"{len(cells)} cells, but {len(header)} columns")
            elif any(cells):
                records.append((dict(zip(header, cells, strict=True)), f"{path}:{line}"))
            line = reader.line_num + 1
        return set(header), records


def _jsonl(path: Path, lines: Iterator[str] | Any, errors: Errors) -> tuple[set[str], Records]:
    records: Records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            errors.add(where, f"not JSON: {error}")
            continue
        if not isinstance(values, dict):
            errors.add(where, f"expected an object {{…}}, got {type(values).__name__}")
            continue
        records.append((values, where))
    return {key for values, _ in records for key in values}, records


def _parquet(path: Path, needed: set[str]) -> tuple[set[str], Records]:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        # Only what is used: such files may carry whole waveforms.
        table = pyarrow.parquet.read_table(path, columns=[n for n in names if n in needed])
    except pyarrow.ArrowException as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None
    records = [
        (values, f"{path}: row {number}") for number, values in enumerate(table.to_pylist(), 1)
    ]
    return set(names), records


def _check_columns(spec: TableSpec, found: frozenset[str], where: Path) -> None:
    missing = sorted(needed_columns(spec) - found)
    if missing:
        known = sorted(found | {group for pattern in spec.patterns for group in pattern.groups})
        raise CorpusError(
            f"{spec.name}: {where} has no column {', '.join(map(repr, missing))}; it has: "
            f"{', '.join(known)}; change `fields` in the corpus' YAML file"
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
        if match is None:
            errors.add(
                row.source,
                f"{pattern.column} {value!r} does not fit the pattern {pattern.regex!r}; "
                "change the pattern, or narrow the list of files",
            )
            return None
        groups |= match.groupdict()
    return groups
