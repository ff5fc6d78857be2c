"""Parquet tables, also with recordings inside, as on the Hugging Face hub."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from shards.corpora.base import CorpusError
from shards.corpora.embedded import Embedded
from shards.corpora.table.layout import POINTER, Records, Request, Table, pointer

if TYPE_CHECKING:
    import pyarrow as pa


def read(one: Request) -> Table:
    """The columns of a Parquet file, and records with the needed ones.

    A column of recordings, {bytes, path} or bytes, yields an `Embedded`, or the path where there
    are no bytes; `<column>.path` is that path. Class numbers of Hugging Face become names.

    Raises:
        CorpusError: it is no Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    path, needed = one.path, {*one.needed}
    with path.open("rb") as start:
        if start.read(len(POINTER)) == POINTER.encode():
            raise pointer(path)
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
            cells[name] = [_word(cell, words, one.words) for cell in cells[name]]
    count = file.metadata.num_rows
    records: Records = [
        ({name: column[row] for name, column in cells.items()}, f"{path}: row {row + 1}")
        for row in range(count)
    ]
    return Table({*schema.names, *(f"{name}.path" for name in paths)}, records)


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


def _word(cell: Any, words: Sequence[str], named: Collection[str]) -> Any:
    """The name of class `cell`; a spec that names the numbers themselves keeps them."""
    if not isinstance(cell, int) or str(cell) in named:
        return cell
    return words[cell] if 0 <= cell < len(words) else None  # -1: not labelled
