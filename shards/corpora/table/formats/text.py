"""Text files of a corpus, whatever their encoding; and tables of JSON lines."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from shards.corpora.table.layout import POINTER, Records, Request, Table, pointer

MARK = "\ufeff"  # the byte order mark, as Excel writes it, would be part of the first name
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8"}
GZIP = b"\x1f\x8b"


@contextmanager
def open_text(path: Path, encoding: str | Sequence[str]) -> Iterator[TextIO]:
    """Open text file `path`, perhaps gzip'd; the file's lines keep their ends.

    Args:
        encoding: one, or several of which the first that fits the whole file is taken.

    Raises:
        UnicodeError: (also while reading) the text is of none of them.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        start = raw.peek(4)[:4]
        packed = start[:2] == GZIP
        with gzip.open(raw) if packed else raw as content:
            if isinstance(encoding, str):
                file: TextIO = io.TextIOWrapper(content, encoding=encoding, newline="")
                if file.read(1) != MARK:
                    file.seek(0)
                yield file
            else:
                yield io.StringIO(decode(content.read(), encoding), newline="")


def read_text(path: Path, encoding: str | Sequence[str]) -> str:
    """The whole of a small text file, as `open_text` would read it."""
    content = path.read_bytes()
    if content[:2] == GZIP:
        content = gzip.decompress(content)
    if not isinstance(encoding, str):
        return decode(content, encoding)
    return content.decode(encoding).removeprefix(MARK)


def decode(content: bytes, encodings: Sequence[str]) -> str:
    """`content` in the first of `encodings` that it fits; its byte order mark decides.

    Raises:
        UnicodeDecodeError: none fits; the error is that of the first one.
    """
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    first: UnicodeDecodeError | None = None
    for encoding in [marked] if marked else encodings:
        # Without its mark, almost any bytes are UTF-16.
        if encoding.lower().replace("_", "-") == "utf-16" and not marked:
            continue
        try:
            return content.decode(encoding).removeprefix(MARK)
        except UnicodeDecodeError as error:
            first = first or error
    raise first or UnicodeDecodeError("utf-16", content[:2], 0, 1, "no byte order mark")


def read(one: Request) -> Table:
    """A table of JSON lines: one object a line, perhaps gzip'd."""
    with open_text(one.path, one.layout.encoding) as file:
        records = json_lines(one, file)
    return Table({key for values, _ in records for key in values}, records)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values. JSON's readers would take the last of equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = sorted(name for name in found if sum(name == one for one, _ in pairs) > 1)
        raise ValueError(f"the key {', '.join(map(repr, twice))} stands there twice")
    return found


def json_lines(one: Request, lines: TextIO) -> Records:
    """The objects of the lines; a line that holds none is an error of the corpus."""
    records: Records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{one.path}:{number}"
        if number == 1 and line.startswith(POINTER):
            raise pointer(one.path)
        try:
            values = json.loads(line, parse_constant=_constant, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            one.errors.add(where, f"not JSON: {error}")
            continue
        if not isinstance(values, dict):
            one.errors.add(where, f"expected an object {{…}}, got {type(values).__name__}")
            continue
        records.append((values, where))
    return records


def _constant(name: str) -> None:
    """What pandas writes for an empty cell is no JSON, and no word."""
    if name != "NaN":
        raise ValueError(f"{name} is no value of JSON")
