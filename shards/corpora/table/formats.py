"""One table of a corpus -> its columns and its records: CSV, TSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from shards.corpora.base import CorpusError, Errors
from shards.corpora.table.spec import Format, TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

Records = list[tuple[dict[str, Any], str]]  # values, `file:line`
DELIMITERS = {"csv": ",", "tsv": "\t"}
POINTER = "version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A cell that holds a recording: the Parquet file, the column and the row (from 0)."""

    file: Path
    column: str
    row: int


def read_text(
    path: Path, kind: Format, spec: TableSpec, errors: Errors, notes: list[str]
) -> tuple[set[str], Records]:
    """The columns and records of a text file; what is wrong with a line goes to `errors`.

    Raises:
        CorpusError: columns that stand twice, or a quote that is never closed.
        UnicodeError, OSError, csv.Error: the file is not what it should be.
    """
    with path.open(encoding=spec.encoding, newline="") as file:
        # A byte order mark, as Excel writes it, would become part of the first column's name.
        if file.read(1) != "\ufeff":
            file.seek(0)
        if kind == "jsonl":
            return _jsonl(path, file, errors)
        quoting = spec.quoting if spec.quoting is not None else kind == "csv"
        lines: list[str] = []  # of the row at hand, as they stand in the file
        reader = csv.reader(
            _kept(file, lines),
            delimiter=spec.delimiter or DELIMITERS[kind],
            quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
            strict=True,  # text behind a closing quote: the quote was no quote
        )
        try:
            columns, records = _separated(path, reader, (spec, lines), errors)
        except csv.Error as error:
            raise CorpusError(
                f"{path}:{reader.line_num}: {error}; mend the quotes, or set `quoting: false` in "
                "the corpus' YAML file if they are part of the text"
            ) from None
    if not quoting:
        notes += _quoted_cells(path, records)
    return columns, records


def _kept(file: TextIO, lines: list[str]) -> Iterator[str]:
    for line in file:
        lines.append(line)
        yield line


def _separated(
    path: Path, reader: Any, source: tuple[TableSpec, list[str]], errors: Errors
) -> tuple[set[str], Records]:
    spec, lines = source
    header = [name.strip() for name in next(reader, [])]
    if header and header[0].startswith(POINTER):
        raise _pointer(path)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CorpusError(f"{path}:1: the columns {', '.join(twice)} stand there twice")
    records: Records = []
    line = reader.line_num + 1
    lines.clear()
    for cells in reader:  # a quoted cell may span lines: name the first
        where = f"{path}:{line}"
        line = reader.line_num + 1
        swallowed = len(lines) > 1 and not _may_span(lines, len(header), reader.dialect, spec)
        lines.clear()
        if swallowed:
            errors.add(
                where,
                "a quoted cell goes over several lines: close its quote, or set in the corpus' "
                "YAML file `quoting: false` (quotes are text) or `line_breaks: true` (it is meant)",
            )
        elif not any(cells):
            continue
        elif len(cells) != len(header):
            errors.add(where, f"{len(cells)} cells, but {len(header)} columns")
        else:
            records.append((dict(zip(header, cells, strict=True)), where))
    return set(header), records


def _may_span(lines: Sequence[str], columns: int, dialect: Any, spec: TableSpec) -> bool:
    """Whether the row that stands on these `lines` is one row.

    A quote that is never closed takes the rows below it into its cell. In csv, where cells may
    span lines, it shows by lines that would be whole rows by themselves.
    """
    if spec.line_breaks is not None:
        return spec.line_breaks
    if dialect.delimiter != ",":
        return False
    return not all(line.count(",") == columns - 1 for line in (lines[0], lines[-1]))


def _quoted_cells(path: Path, records: Records) -> list[str]:
    places = [
        where
        for values, where in records
        for cell in values.values()
        if len(cell) > 1 and cell[0] == cell[-1] == '"'
    ]
    if not places:
        return []
    return [
        f"WARNING: {len(places)} cells of {path} stand in quotes, which are read as text (first: "
        f"{places[0]}); set `quoting: true` in the corpus' YAML file if they are not part of it"
    ]


def _jsonl(path: Path, lines: TextIO, errors: Errors) -> tuple[set[str], Records]:
    records: Records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        if number == 1 and line.startswith(POINTER):
            raise _pointer(path)
        try:
            values = json.loads(line, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            errors.add(where, f"not JSON: {error}")
            continue
        if not isinstance(values, dict):
            errors.add(where, f"expected an object {{…}}, got {type(values).__name__}")
            continue
        records.append((values, where))
    return {key for values, _ in records for key in values}, records


def _pointer(path: Path) -> CorpusError:
    return CorpusError(f"{path} is a pointer of Git LFS: run `git lfs pull` in the corpus")


def _constant(name: str) -> None:
    """What pandas writes for an empty cell is no JSON, and no word."""
    if name != "NaN":
        raise ValueError(f"{name} is no value of JSON")


def read_parquet(path: Path, needed: set[str], spec: TableSpec) -> tuple[set[str], Records]:
    """The columns of a Parquet file, and records with the needed ones.

    A column of recordings, {bytes, path} or bytes, yields an `Embedded`, or the path where there
    are no bytes; `<column>.path` is that path. Class numbers of Hugging Face become names.

    Raises:
        CorpusError: it is no Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as start:
        if start.read(len(POINTER)) == POINTER.encode():
            raise _pointer(path)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
        holding = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
        paths = [
            name for name in holding
            if pyarrow.types.is_struct(schema.field(name).type)
            and schema.field(name).type.get_field_index("path") >= 0
        ]  # fmt: skip
        # Only what is used: such files carry whole waveforms.
        plain = [name for name in schema.names if name in needed and name not in holding]
        used = [name for name in holding if {name, f"{name}.path"} & needed]
        table = file.read(columns=plain + [f"{name}.path" for name in used if name in paths])
        cells = {name: _column(table[name]) for name in plain}
        for name in used:
            full = _has_bytes(file, name, nested=pyarrow.types.is_struct(schema.field(name).type))
            cells[f"{name}.path"] = [None] * len(full)
            if name in paths:
                cells[f"{name}.path"] = [cell and cell["path"] for cell in table[name].to_pylist()]
            cells[name] = [
                Embedded(path, name, row) if there else cells[f"{name}.path"][row]
                for row, there in enumerate(full)
            ]
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None
    for name, words in _class_names(schema.metadata).items():
        if name in cells:
            cells[name] = [_word(cell, words, spec) for cell in cells[name]]
    count = file.metadata.num_rows
    records: Records = [
        ({name: column[row] for name, column in cells.items()}, f"{path}: row {row + 1}")
        for row in range(count)
    ]
    return {*schema.names, *(f"{name}.path" for name in paths)}, records


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _has_bytes(file: Any, name: str, nested: bool) -> list[bool]:
    """Whether the cell of each row has bytes; they are read only where the file does not say."""
    leaf = f"{name}.bytes" if nested else name
    full: list[bool] = []
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        columns = [group.column(index) for index in range(group.num_columns)]
        [chunk] = [column for column in columns if column.path_in_schema == leaf]
        told = chunk.statistics.null_count if chunk.statistics is not None else None
        if told in (0, group.num_rows):
            full += [told == 0] * group.num_rows
            continue
        column = file.read_row_group(number, columns=[leaf])[name]
        values = (cell.as_py() for cell in column)
        full += [bool(v["bytes"] if isinstance(v, dict) else v) for v in values]
    return full


def _column(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow

    if pyarrow.types.is_duration(column.type):  # as seconds: nanoseconds have no type in Python
        scale = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
        numbers = column.cast(pyarrow.int64()).to_pylist()
        return [None if number is None else number / scale for number in numbers]
    return [_filled(cell) for cell in column.to_pylist()]


def _filled(cell: Any) -> Any:
    """`cell` with None for what is not a number."""
    if isinstance(cell, list):
        return [_filled(item) for item in cell]
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(word) for word in kind["names"]]
            for name, kind in features.items()
            if kind.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _word(cell: Any, words: Sequence[str], spec: TableSpec) -> Any:
    """The name of class `cell`; a spec that names the numbers themselves keeps them."""
    if not isinstance(cell, int) or str(cell) in spec.labels:
        return cell
    return words[cell] if 0 <= cell < len(words) else None  # -1: not labelled
