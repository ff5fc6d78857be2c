"""Rows of other tables joined to those of the corpus by a key: votes here, transcripts there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shards.corpora.table.files import SHOWN
from shards.corpora.table.rows import Reading, Row
from shards.corpora.table.spec import Join, Source

Found = list[Mapping[str, Any]]  # the rows of one key


def join(rows: list[Row], one: Join, reading: Reading) -> None:
    """Add to `rows` the columns of their partners in `one`'s tables; None where there is none.

    Several joins may fill one column: what the first finds stays. A row whose columns stay empty,
    and one with several partners where the join takes one, is told in the notes.
    """
    names = one.columns.items()
    partners: dict[str, Found] = {}
    for row in reading.tables(one, one.needed(), one.optional):
        # A key stands once in memory, however many raters have it.
        if key := _key(one.key, row.values):
            partners.setdefault(key, []).append(row.values)
    lacking, several = [], []
    for row in rows:
        key = _key(one.on, row.values)
        found = partners.get(key or "", [])
        if one.nearest is not None:
            found = _nearest(one, row.values, found)
        if not found and all(row.values.get(new) is None for new in one.columns):
            lacking.append(row.source)
        if len(found) > 1 and not one.many:
            several.append(row.source)
        for new, old in names:
            values = [each.get(old) for each in found]
            value: Any = values if one.many else values[0] if values else None
            if value or new not in row.values:
                row.values[new] = value
    tables = ", ".join(pattern for patterns in one.tables.values() for pattern in patterns)
    for sources, what in (
        (lacking, "no partner"),
        (several, "several partners, of which the first counts (`many: true` takes all),"),
    ):
        if sources:
            shown = ", ".join(sources[:SHOWN]) + ", …" * (len(sources) > SHOWN)
            reading.notes.append(
                f"WARNING: {len(sources)} of {len(rows)} rows have {what} in {tables} ({shown})"
            )


def _key(source: Source, values: Mapping[str, Any]) -> str | None:
    if source.column is not None and not source.map:
        value = values.get(source.column)
        return None if value is None else str(value).strip()
    pieces = [values.get(text) if is_column else text for is_column, text in source.parts]
    if any(piece is None for piece in pieces):
        return None
    key = "".join(map(str, pieces)).strip()
    return source.map.get(key, key)


def _nearest(one: Join, values: Mapping[str, Any], found: Found) -> Found:
    assert one.nearest is not None
    place = _number(values.get(one.nearest.to))
    if place is None:
        return []
    distances = [
        (abs(there - place), number)
        for number, each in enumerate(found)
        if (there := _number(each.get(one.nearest.column))) is not None
    ]
    distance, number = min(distances, default=(float("inf"), 0))
    return [found[number]] if distance <= one.nearest.within else []


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
