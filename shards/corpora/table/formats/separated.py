"""Tables of lines with separated cells: CSV, TSV and their relatives."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from shards.corpora.base import CorpusError
from shards.corpora.table.formats.text import open_text
from shards.corpora.table.layout import POINTER, Layout, Records, Request, Table, pointer


def read(one: Request, delimiter: str) -> Table:
    """The table in a file of lines; `delimiter` is that of its format.

    Raises:
        CorpusError: columns that stand twice, or a quote that is never closed.
        UnicodeError, OSError, csv.Error: the file is not what it should be.
    """
    layout = one.layout
    quoting = layout.quoting if layout.quoting is not None else delimiter != "\t"
    with open_text(one.path, layout.encoding) as file:
        lines: list[str] = []  # of the row at hand, as they stand in the file
        reader = csv.reader(
            _kept(file, lines),
            delimiter=layout.delimiter or delimiter,
            quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
            strict=True,  # text behind a closing quote: the quote was no quote
        )
        try:
            columns, records, quoted = _rows(one, reader, lines)
        except csv.Error as error:
            raise CorpusError(
                f"{one.path}:{reader.line_num}: {error}; mend the quotes, or set `quoting: false` "
                "in the corpus' YAML file if they are part of the text"
            ) from None
    if not quoting and quoted:
        one.notes.append(
            f"WARNING: {len(quoted)} cells of {one.path} stand in quotes, which are read as text "
            f"(first: {quoted[0]}); set `quoting: true` in the corpus' YAML file if they are not "
            "part of it"
        )
    return Table(columns, records)


def _kept(file: TextIO, lines: list[str]) -> Iterator[str]:
    for line in file:
        lines.append(line)
        yield line


def _header(one: Request, reader: Any) -> list[str]:
    """The columns' names; one without a name goes by its place: `column 1`."""
    if one.layout.header:
        return list(one.layout.header)
    found = [name.strip() for name in next(reader, [])]
    if found and found[0].startswith(POINTER):
        raise pointer(one.path)
    header = [name or f"column {place}" for place, name in enumerate(found, start=1)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CorpusError(f"{one.path}:1: the columns {', '.join(twice)} stand there twice")
    return header


def _rows(one: Request, reader: Any, lines: list[str]) -> tuple[set[str], Records, list[str]]:
    header = _header(one, reader)
    wanted = [(place, name) for place, name in enumerate(header) if name in one.needed]
    path, count = str(one.path), len(header)
    records: Records = []
    quoted: list[str] = []  # where cells stand in quotes that are read as text
    skipped: list[str] = []
    line = reader.line_num + 1
    lines.clear()
    for cells in reader:  # a quoted cell may span lines: name the first
        where = f"{path}:{line}"
        line = reader.line_num + 1
        swallowed = len(lines) > 1 and not _may_span(lines, count, reader.dialect, one.layout)
        lines.clear()
        if swallowed:
            one.errors.add(
                where,
                "a quoted cell goes over several lines: close its quote, or set in the corpus' "
                "YAML file `quoting: false` (quotes are text) or `line_breaks: true` (it is meant)",
            )
        elif not any(cells):
            continue
        elif len(cells) != count:
            if one.layout.bad_lines == "skip":
                skipped.append(where)
            else:
                one.errors.add(where, f"{len(cells)} cells, but {count} columns")
        else:
            quoted += [where for cell in cells if len(cell) > 1 and cell[0] == cell[-1] == '"']
            records.append(({name: cells[place] for place, name in wanted}, where))
    if skipped:
        one.notes.append(
            f"{len(skipped)} lines of {path} do not have its {count} cells and are left out "
            f"(first: {skipped[0]})"
        )
    return set(header), records, quoted


def _may_span(lines: Sequence[str], columns: int, dialect: Any, layout: Layout) -> bool:
    """Whether the row that stands on these `lines` is one row.

    A quote that is never closed takes the rows below it into its cell. In csv, where cells may
    span lines, it shows by lines that would be whole rows by themselves.
    """
    if layout.line_breaks is not None:
        return layout.line_breaks
    mark = dialect.delimiter
    if mark == "\t":
        return False
    return not all(line.count(mark) == columns - 1 for line in (lines[0], lines[-1]))
