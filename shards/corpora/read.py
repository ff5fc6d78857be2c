"""The registry of corpus readers: `CorpusConfig` lists their configurations.

A reader is a module with a configuration class: `reader` is its name in YAML files, `read` yields
the `Corpus`. `table` reads most corpora by a YAML file (`configs/corpora`). A layout that no table
describes gets a module of its own in this folder, and its class is added to `CorpusConfig`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shards.corpora.base import Corpus
from shards.corpora.iemocap.reader import IemocapConfig
from shards.corpora.table.reader import TableConfig

CorpusConfig = Annotated[IemocapConfig | TableConfig, Field(discriminator="reader")]


def read_corpus(config: CorpusConfig, keep_incomplete: bool = False) -> Corpus:
    """Read the corpus that `config` describes, with the reader that it names.

    With `keep_incomplete`, turns that lack their audio or their text are in it with the other one.

    Raises:
        CorpusError: the corpus is not there or has errors; the message lists all of them.
    """
    return config.read(keep_incomplete)
