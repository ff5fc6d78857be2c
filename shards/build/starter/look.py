"""What a table is, seen from outside: its encoding, separator, columns and rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from shards.corpora.base import Errors
from shards.corpora.table.formats import FORMATS
from shards.corpora.table.formats.text import MARKS, decode
from shards.corpora.table.layout import SUFFIXES, Layout, Request
from shards.errors import UserError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SAMPLE = 200  # lines that the separator is told from
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".amr", ".wma", ".webm",
         ".mkv", ".avi", ".aiff", ".aif")  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A table as it was found. `layout` holds the settings of a spec that are not the default.

    `rows` are all rows whose cells fit the columns, as texts.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    layout: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def values(self, column: str) -> list[str]:
        """The cells of a column that are not empty, in order."""
        return [value for row in self.rows if (value := row.get(column, "").strip())]


def look(path: Path) -> Look:
    """Find out how the table in `path` is written.

    Raises:
        UserError: there is no such file, it is no table, or it has no rows.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: name the table of your corpus, such as my.csv")
    suffix = path.suffix.lower()
    found = _typed(path, suffix) if suffix in (".jsonl", ".ndjson", ".parquet") else _lines(path)
    if not found.rows:
        raise UserError(f"{path} has no rows: a table begins with the names of its columns")
    return found


def _typed(path: Path, suffix: str) -> Look:
    """A table whose format tells its columns."""
    kind = SUFFIXES[suffix]
    columns = _names(path, suffix)
    request = Request(path, Layout(), set(columns), (), errors := Errors(), [])
    records = FORMATS[kind](request).records
    errors.raise_if_any(path.parent)
    rows = [
        {name: "" if value is None else str(value) for name, value in values.items()}
        for values, _ in records
    ]
    return Look(path, columns, rows)


def _names(path: Path, suffix: str) -> tuple[str, ...]:
    if suffix != ".parquet":
        with path.open("rb") as file:
            heads = [json.loads(line) for line in islice(file, SAMPLE) if line.strip()]
        return tuple(dict.fromkeys(name for head in heads for name in head))
    import pyarrow.parquet

    return tuple(pyarrow.parquet.read_schema(path).names)


def _lines(path: Path) -> Look:
    content = path.read_bytes()
    text, encoding, remarks = _decoded(path, content)
    lines = text.splitlines(keepends=True)
    separator = _separator(lines[:SAMPLE])
    if separator is None:
        raise UserError(
            f"{path} is no table that is known: its lines have no separator "
            f"({', '.join(SEPARATORS.values())}) in common"
        )
    quoting = separator != "\t"
    try:
        reader = csv.reader(
            lines,
            delimiter=separator,
            quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        )
        cells = [row for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"{path}: {error}; mend the quotes") from None
    head, *rest = cells
    layout: dict[str, Any] = {}
    suffix = ".tsv" if separator == "\t" else ".csv"
    if path.suffix.lower() != suffix:
        layout["format"] = suffix[1:]
    elif suffix == ".csv" and separator != ",":
        layout["delimiter"] = separator
    if layout.get("format") == "csv" and separator != ",":
        layout["delimiter"] = separator
    if encoding not in ("utf-8", "ascii"):
        layout["encoding"] = encoding
    columns = tuple(name.strip() or f"column {n}" for n, name in enumerate(head, start=1))
    if any(name.lower().endswith(AUDIO) for name in columns):
        columns = tuple(f"column {number}" for number in range(1, len(head) + 1))
        layout["header"] = list(columns)
        rest = cells
        remarks = (*remarks, "the first line names no columns, but is a row")
    rows = [dict(zip(columns, row, strict=True)) for row in rest if len(row) == len(columns)]
    remarks = (f"{SEPARATORS[separator]}s between {len(columns)} columns, {encoding}", *remarks)
    return Look(path, columns, rows, layout, remarks)


def _decoded(path: Path, content: bytes) -> tuple[str, str, tuple[str, ...]]:
    """The text, its encoding, and a remark where that is a guess."""
    if b"\0" in content[:4096] and not content.startswith(tuple(MARKS)):
        raise UserError(f"{path} is no text: save the table as csv")
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    try:
        return decode(content, ["utf-8"]), marked or "utf-8", ()
    except UnicodeDecodeError:
        text = decode(content, ["cp1252", "latin-1"])
    letters = sorted({letter for letter in text if not letter.isascii()})
    shown = " ".join(letters[:12])
    return text, "cp1252", (
        f"it is not UTF-8; read as cp1252 its letters are {shown}: are they right? if not, correct "
        "`encoding` in the spec",
    )  # fmt: skip


def _separator(lines: Sequence[str]) -> str | None:
    """The separator that cuts most lines into the same number of cells."""
    best: tuple[float, int, str] | None = None
    for mark in SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=mark) if any(row)]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        agreeing = sum(width == widths[0] for width in widths) / len(widths)
        best = max(best or (0.0, 0, mark), (round(agreeing, 1), widths[0], mark))
    return best[2] if best and best[0] >= 0.5 else None
