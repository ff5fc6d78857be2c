"""The formats of tables: each module reads one file into columns and records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from shards.corpora.table.formats import (
    audformat,
    blocks,
    kaldi,
    lhotse,
    mosei,
    parquet,
    separated,
    tars,
    text,
)
from shards.corpora.table.layout import Format, Request, Table

FORMATS: dict[Format, Callable[[Request], Table]] = {
    "csv": partial(separated.read, delimiter=","),
    "tsv": partial(separated.read, delimiter="\t"),
    "jsonl": text.read,
    "parquet": parquet.read,
    "webdataset": tars.read,
    "kaldi": kaldi.read,
    "lhotse": lhotse.read,
    "audformat": audformat.read,
    "blocks": blocks.read_heads,
    "raters": blocks.read_raters,
    "mosei": mosei.read,
}
