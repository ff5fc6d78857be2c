"""How a table lies in its file: format, encoding, separator, which rows; and YAML as it is written.

`TableSpec` and each of its joins are a `Layout` with fields of their own.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import ConfigDict, Field, field_validator

from shards.configfile import Config
from shards.corpora.base import CorpusError, Errors
from shards.errors import suggestion

Format = Literal[
    "csv", "tsv", "jsonl", "parquet", "webdataset",
    "kaldi", "lhotse", "audformat", "blocks", "raters", "mosei",
]  # fmt: skip
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tar": "webdataset",
    ".scp": "kaldi",
    ".csd": "mosei",
}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "test": "test",
    "testing": "test",
}
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "gb18030", "shift_jis", "euc-kr")
NO_SPLIT = ""  # the key of files that belong to no official split
POINTER = "version https://git-lfs"

Records = list[tuple[dict[str, Any], str]]  # values, `file:line`


class SpecLoader(yaml.SafeLoader):
    """Reads every word and number as the text that was written: `03`, `no`, `1e3`.

    They are words of a corpus here. YAML would make them 3, False and 1000. A key that stands twice
    is an error.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (so it is declared)
        first: [(tag, regex) for tag, regex in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text, also `null`."""
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                key.tag = "tag:yaml.org,2002:str"
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                keys.add(key.value)
        return super().construct_mapping(node, deep)


class Pattern(Config):
    """A regular expression that is searched in a column; its named groups are new columns."""

    column: str
    regex: str

    @field_validator("regex")
    @classmethod
    def _compiles(cls, regex: str) -> str:
        if not compiled(regex).groupindex:
            raise ValueError("it has no named group, (?P<name>…)")
        return regex

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the columns that it makes."""
        return tuple(re.compile(self.regex).groupindex)


class Layout(Config):
    """How the rows of a table lie in its files, and which of them count."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    tables: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    format: Format | None = None  # by the file's suffix
    encoding: str | tuple[str, ...] = "utf-8"  # several: the first that fits the file
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)  # by the format
    quoting: bool | None = None  # cells in double quotes; by default in csv and not in tsv
    line_breaks: bool | None = None  # whether a quoted cell may span lines; by default: see `table`
    header: tuple[str, ...] = ()  # the columns' names, where the file has none
    bad_lines: Literal["refuse", "skip"] = "refuse"  # lines with more or fewer cells than columns
    patterns: tuple[Pattern, ...] = ()
    where: dict[str, str] = Field(default_factory=dict)  # column -> regular expression: only these

    @field_validator("tables", mode="before")
    @classmethod
    def _tables_by_split(cls, raw: Any) -> Any:
        return by_split(raw)

    @field_validator("tables")
    @classmethod
    def _inside_root(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return inside_root(groups)

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for encoding in (given,) if isinstance(given, str) else given:
            try:
                "".encode(encoding)  # a codec that is not for text (hex, rot13) refuses
                codecs.lookup(encoding)
            except LookupError:
                raise ValueError(
                    f"no encoding of text{suggestion(encoding, ENCODINGS)}; usual are "
                    + ", ".join(ENCODINGS)
                ) from None
        if not given:
            raise ValueError("name at least one encoding")
        return given

    @field_validator("where")
    @classmethod
    def _conditions_compile(cls, where: dict[str, str]) -> dict[str, str]:
        for regex in where.values():
            compiled(regex)
        return where

    @property
    def groups(self) -> set[str]:
        """The columns that patterns make."""
        return {group for pattern in self.patterns for group in pattern.groups}


@dataclass(frozen=True)
class Request:
    """One table to be read: where it lies, how, and the columns that are wanted of it.

    `words` are the labels that the spec names. What is wrong with a line is added to `errors`,
    remarks to `notes`.
    """

    path: Path
    layout: Layout
    needed: Collection[str]
    words: Collection[str]
    errors: Errors
    notes: list[str]


class Table(NamedTuple):
    """What a format reads: the names of all columns, and the wanted values of each row."""

    columns: set[str]
    records: Records


def pointer(path: Path) -> CorpusError:
    """The error for a file that is only a pointer of Git LFS."""
    return CorpusError(f"{path} is a pointer of Git LFS: run `git lfs pull` in the corpus")


def compiled(regex: str) -> re.Pattern[str]:
    """`regex`, or a ValueError that says what is wrong with it."""
    try:
        return re.compile(regex)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


def by_split(raw: Any) -> Any:
    """Files of `tables` or `audio_files` by their split, from any form that a spec may write."""
    groups = raw if isinstance(raw, dict) else {NO_SPLIT: raw}
    return {
        split: (patterns,) if isinstance(patterns, str) else patterns
        for split, patterns in groups.items()
    }


def inside_root(groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """`groups`, whose keys are splits and whose paths lead below the corpus' root.

    Raises:
        ValueError: a key is no split, or a path is not inside.
    """
    for split, patterns in groups.items():
        if split != NO_SPLIT and split.lower() not in SPLITS:
            raise ValueError(
                f"unknown split {split!r}{suggestion(split, SPLITS)}; known: {', '.join(SPLITS)}"
            )
        for pattern in patterns:
            path = PurePosixPath(pattern)
            if not path.parts or path.is_absolute() or ".." in path.parts:
                raise ValueError(
                    f"{pattern!r} must be a path inside the corpus' root: set corpus.root to a "
                    "folder above (/ will do) and write the path from there"
                )
    return groups
