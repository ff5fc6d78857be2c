"""Recordings inside another file: a cell of a Parquet file, or a member of a tar.

Parquet is how data sets lie on the Hugging Face hub, tars are WebDataset's.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.corpora.utterance import Utterance
from shards.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Embedded:
    """Where a recording lies: a column and a row (from 0) of a Parquet file.

    In a tar, the name of the member and the byte at which its header begins.
    """

    file: Path
    column: str
    row: int


def read_recording(one: Utterance) -> bytes:
    """The content of the file that `one.audio` names, or of its cell.

    Raises:
        OSError: there is no such file.
        UserError: the file around it is not what it was when the corpus was read.
    """
    assert one.audio is not None
    if one.embedded is None:
        return one.audio.read_bytes()
    column, row = one.embedded
    if one.audio.suffix.lower() == ".tar":
        return _member(one.audio, column, row)
    cell = _cell(one.audio, column, row)
    if not isinstance(cell, bytes):
        raise UserError(f"{one.audio}: row {row + 1}: {column} holds no recording; build anew")
    return cell


def _member(path: Path, name: str, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        try:
            # From its header on, what is left of a tar is a tar.
            with tarfile.open(fileobj=file, mode="r|") as rest:
                member = rest.next()
                content = rest.extractfile(member) if member is not None else None
                if content is not None and member is not None and member.name == name:
                    return content.read()
        except tarfile.TarError:
            pass
    raise UserError(f"{path}: there is no {name} at byte {offset} any more; build anew")


def _cell(path: Path, column: str, row: int) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                cell = _group(path, column, group)[row].as_py()
                return cell["bytes"] if isinstance(cell, dict) else cell
            row -= rows
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}") from None
    return None


# Turns come sorted by id, which is mostly the order of the rows: so the last row group is enough.
@lru_cache(maxsize=1)
def _group(path: Path, column: str, group: int) -> pa.ChunkedArray:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    nested = any(name.startswith(f"{column}.") for name in _leaves(file))
    wanted = f"{column}.bytes" if nested else column
    return file.read_row_group(group, columns=[wanted])[column]


def _leaves(file: Any) -> list[str]:
    return [file.schema.column(number).path for number in range(len(file.schema))]
