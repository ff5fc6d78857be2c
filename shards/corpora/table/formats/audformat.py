"""Tables of audformat: `db.<table>.csv` or `.parquet`, explained by the `db.yaml` beside them.

A row has the table's columns (file, its labels, start and end, which are empty in a table of whole
files), `index` (the three of them), `split`, where the table belongs to one, and for each label
whose scheme says more of its values `<column>.<fact>`, such as `speaker.gender`. Pickles are never
read.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shards import yaml_text
from shards.corpora.base import CorpusError
from shards.corpora.table.formats import parquet, separated
from shards.corpora.table.layout import Request, Table

HEADER = "db.yaml"
TIMES = ("start", "end")
PARTS = {"train": "train", "dev": "dev", "test": "test"}


def read(one: Request) -> Table:
    """One table of a database, with what its header says.

    Raises:
        CorpusError: there is no header, or it knows no such table.
    """
    header = _header(one.path.with_name(HEADER))
    name = one.path.name.removeprefix("db.").rpartition(".")[0]
    tables = _mapping(header.get("tables"))
    about = _mapping(tables.get(name))
    if not about:
        there = ", ".join(tables)
        raise CorpusError(f"{one.path}: {HEADER} knows no table {name!r}; it knows: {there}")
    wanted = {"file", *TIMES, *(column.partition(".")[0] for column in one.needed)}
    inner = replace(one, needed={*one.needed, *wanted})
    suffix = one.path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise CorpusError(f"{one.path}: tables are read from .csv and .parquet, no pickles")
    columns, records = parquet.read(inner) if suffix == ".parquet" else separated.read(inner, ",")
    facts = _facts(one, header, about, wanted)
    names = {f"{column}.{fact}" for column, known in facts.items()
             for more in known.values() for fact in more}  # fmt: skip
    splits = _mapping(header.get("splits"))
    kind = _mapping(splits.get(str(about.get("split_id")))).get("type")
    split = PARTS.get(str(kind), "") or PARTS.get(str(about.get("split_id")), "")
    for values, _ in records:
        values.setdefault("split", split)
        times = [values.setdefault(name, None) for name in TIMES]
        values["index"] = " ".join(str(one) for one in (values.get("file"), *times) if one)
        for column, known in facts.items():
            more = known.get(str(values.get(column)), {})
            values |= {f"{column}.{fact}": value for fact, value in more.items()}
        for fact in names:
            values.setdefault(fact, None)
    return Table({*columns, *names, *TIMES, "split", "index"}, records)


def _facts(
    one: Request, header: dict[str, Any], about: dict[str, Any], wanted: set[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """What the schemes of a table's columns say of each value: {column: {value: {fact: …}}}."""
    facts = {}
    for column, more in _mapping(about.get("columns")).items():
        schemes = _mapping(header.get("schemes"))
        labels = _mapping(schemes.get(str(_mapping(more).get("scheme_id")))).get("labels")
        if column not in wanted:
            continue
        known = _misc(one, labels) if isinstance(labels, str) else _mapping(labels)
        facts[column] = {str(value): fact for value, fact in known.items() if _mapping(fact)}
    return facts


def _misc(one: Request, name: str) -> dict[str, dict[str, Any]]:
    """The rows of a table that a scheme names for its values, by their first column."""
    path = one.path.with_name(f"db.{name}.csv")
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        index, *_ = header = next(csv.reader(file), [""])
        rows = [dict(zip(header, cells, strict=False)) for cells in csv.reader(file)]
    return {row.pop(index): row for row in rows if index in row}


def _header(path: Path) -> dict[str, Any]:
    try:
        found = yaml_text.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorpusError(f"cannot read audformat's header {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is not valid YAML: {error}") from None
    return found if isinstance(found, dict) else {}


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
