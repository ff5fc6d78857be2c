"""Corpus readers: one file a layout, each yielding an `Utterance`.

`table` reads most corpora by a YAML file (`configs/corpora`); a layout that no table describes
gets a module of its own here, a configuration in `CorpusConfig`, and a line in `read_corpus`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shards.corpora import iemocap, table
from shards.corpora.base import Corpus, CorpusError, Problem
from shards.corpora.iemocap import IemocapConfig
from shards.corpora.table import TableConfig

CorpusConfig = Annotated[IemocapConfig | TableConfig, Field(discriminator="reader")]

__all__ = [
    "Corpus",
    "CorpusConfig",
    "CorpusError",
    "IemocapConfig",
    "Problem",
    "TableConfig",
    "read_corpus",
]


def read_corpus(config: IemocapConfig | TableConfig) -> Corpus:
    """Read the corpus that `config` describes, with its own reader.

    Raises:
        CorpusError: the corpus is not there or has errors; the message lists all of them.
    """
    if isinstance(config, TableConfig):
        return table.read(config)
    return iemocap.read(config)
