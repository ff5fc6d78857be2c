"""lhotse's manifests: `supervisions.jsonl.gz`, and the `recordings.jsonl.gz` beside it.

A row is a supervision, with its own fields, those of `custom` (as `custom.emotion`), `end`, and
`audio`, the file of its recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shards.corpora.base import CorpusError
from shards.corpora.table.formats.text import json_lines, open_text
from shards.corpora.table.layout import Records, Request, Table

KINDS = ("supervisions", "recordings")


def read(one: Request) -> Table:
    """The supervisions of a manifest; recordings that are no files are errors.

    Raises:
        CorpusError: its name does not tell where the recordings are listed.
    """
    path = one.path.with_name(one.path.name.replace(*KINDS))
    if path == one.path or not path.is_file():
        raise CorpusError(
            f"{one.path}: lhotse's recordings are looked for in a file of the same name with "
            f"{KINDS[1]} in place of {KINDS[0]}, here {path.name}; there is none"
        )
    recordings = {
        str(values.get("id")): _source(values, where, one) for values, where in _lines(one, path)
    }
    records: Records = []
    for values, where in _lines(one, one.path):
        row = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
        custom = values.get("custom")
        if isinstance(custom, dict):
            row |= {f"custom.{name}": value for name, value in custom.items()}
        recording = str(values.get("recording_id"))
        if recording not in recordings:
            one.errors.add(where, f"{recording} is no recording of {path}")
            continue
        row["audio"] = recordings[recording]
        start, length = values.get("start"), values.get("duration")
        if isinstance(start, int | float) and isinstance(length, int | float):
            row["end"] = round(start + length, 9)  # lhotse's own precision
        records.append((row, where))
    return Table({name for row, _ in records for name in row}, records)


def _lines(one: Request, path: Path) -> Records:
    with open_text(path, one.layout.encoding) as file:
        return json_lines(
            Request(path, one.layout, one.needed, one.words, one.errors, one.notes), file
        )


def _source(values: dict[str, Any], where: str, one: Request) -> str | None:
    """The file of a recording."""
    sources = values.get("sources")
    found = [item for item in sources if isinstance(item, dict)] if sources else []
    if len(found) == 1 and found[0].get("type") == "file":
        return str(found[0].get("source"))
    kinds = ", ".join(str(item.get("type")) for item in found) or "no source"
    one.errors.add(
        where,
        f"recording {values.get('id')} comes from {kinds}: only one file is read, and commands are "
        "never run; write its sound to a file",
    )
    return None
