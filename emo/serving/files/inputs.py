"""What a person names on the command line, as items: recordings, folders, tables, JSON lines."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from emo.serving.items import Item, Refusal
from shards.errors import UserError, suggestion

STDIN = "-"
# A folder is searched for these; a file that is named outright is read whatever it is called.
AUDIO = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aiff", ".aif", ".au", ".caf",
    ".w64", ".mp4", ".mkv", ".mov", ".webm", ".avi", ".sph", ".wma",
)  # fmt: skip
COLUMNS = ("id", "audio", "text", "start", "end", "dialogue", "speaker", "label")

Row = Mapping[str, Any]


def items_of(inputs: Iterable[str]) -> Iterator[Item | Refusal]:
    """The items that `inputs` name, one after the other; a bad line of a table is a `Refusal`.

    Raises:
        UserError: an input that is not there, or a table without columns that we know.
    """
    for one in inputs:
        path = Path(one)
        if one == STDIN:
            yield from _of_rows("standard input", _json_lines(sys.stdin), Path())
        elif path.is_dir():
            yield from _of_folder(path)
        elif (reader := TABLES.get(path.suffix.lower())) is not None:
            if not path.is_file():
                raise UserError(f"{path}: there is no such table")
            yield from _of_rows(str(path), reader(path), path.parent)
        else:
            yield Item(one, path)  # whether it is there is found out with all the others


def _of_folder(folder: Path) -> Iterator[Item]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO]
    if not found:
        raise UserError(f"{folder} holds no recording ({', '.join(AUDIO[:6])} and more)")
    yield from (Item(str(path), path) for path in found)


def _of_rows(where: str, rows: Iterator[Row | str], base: Path) -> Iterator[Item | Refusal]:
    for number, row in enumerate(rows):
        if isinstance(row, str):
            yield Refusal(f"{where}:{number + 1}", row)
            continue
        if number == 0:
            _check_columns(where, row)
        try:
            yield _of_row(f"{where}:{number + 1}", row, base)
        except ValueError as error:
            yield Refusal(_text(row, "id") or f"{where}:{number + 1}", str(error))


def _check_columns(where: str, row: Row) -> None:
    if "audio" in row or "text" in row:
        return
    hints = [suggestion(name, COLUMNS) for name in row]
    hint = next((hint for hint in hints if hint), "")
    raise UserError(
        f"{where} has the columns {', '.join(map(str, row)) or '(none)'}; one named audio or text "
        f"is needed (known: {', '.join(COLUMNS)}){hint}"
    )


def _of_row(where: str, row: Row, base: Path) -> Item:
    sound, words = _text(row, "audio"), _text(row, "text")
    if sound is None and words is None:
        raise ValueError(f"{where}: neither audio nor text")
    return Item(
        name=_text(row, "id") or sound or where,
        audio=None if sound is None else base / Path(sound).expanduser(),
        text=words,
        start=_seconds(row, "start", where),
        end=_seconds(row, "end", where),
        dialogue=_text(row, "dialogue"),
        speaker=_text(row, "speaker"),
        label=_text(row, "label"),
    )


def _text(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value) if str(value).strip() else None


def _seconds(row: Row, name: str, where: str) -> float | None:
    written = _text(row, name)
    if written is None:
        return None
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {name} is {written!r}; give seconds")
    return value


def _separated(delimiter: str) -> Callable[[Path], Iterator[Row | str]]:
    def read(path: Path) -> Iterator[Row | str]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            try:
                for row in csv.DictReader(file, delimiter=delimiter):
                    if None in row or None in row.values():
                        yield "another number of cells than the heading has"
                    else:
                        yield {name.strip(): cell for name, cell in row.items()}
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{path} is no table of UTF-8 text: {error}") from None

    return read


def _json_lines(file: TextIO) -> Iterator[Row | str]:
    for line in file:
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                yield f"not JSON: {error}"
                continue
            yield value if isinstance(value, dict) else "not a JSON object"


def _json_file(path: Path) -> Iterator[Row | str]:
    with path.open(encoding="utf-8") as file:
        yield from _json_lines(file)


def _parquet(path: Path) -> Iterator[Row | str]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            known = [name for name in COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(1024, columns=known or None):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet file: {error}") from None


TABLES: dict[str, Callable[[Path], Iterator[Row | str]]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _json_file,
    ".parquet": _parquet,
}
