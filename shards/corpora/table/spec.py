"""The settings of a tabular corpus: what its YAML file may say. `table` documents the format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, field_validator, model_validator

from shards.configfile import Config
from shards.corpora.words import code_of
from shards.errors import suggestion

Format = Literal["csv", "tsv", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "gb18030", "shift_jis", "euc-kr")
NO_SPLIT = ""  # the key of files that belong to no official split

_PLACE = re.compile(r"\{([^{}]+)\}")


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


class Source(Config):
    """Where a field's value comes from: exactly one of the first three, then perhaps a map.

    A plain string stands for a column, or for a template if it has braces.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    column: str | None = None
    template: str | None = None
    constant: str | None = None
    map: dict[str, str] = Field(default_factory=dict)  # the corpus' own words -> ours

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            return {"template" if _PLACE.search(raw) else "column": raw}
        return raw

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        given = [item for item in (self.column, self.template, self.constant) if item is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of column, template and constant")
        return self

    @property
    def parts(self) -> tuple[tuple[bool, str], ...]:
        """The value's pieces in order: (is a column's name, text)."""
        if self.column is not None:
            return ((True, self.column),)
        if self.constant is not None:
            return ((False, self.constant),)
        pieces = _PLACE.split(self.template or "")
        return tuple((place % 2 == 1, text) for place, text in enumerate(pieces) if text)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the value needs."""
        return tuple(text for is_column, text in self.parts if is_column)


class Votes(Config):
    """A column with all annotators' votes: a list, or a string with separators.

    `anger;anger,frustration;neutral` is three annotators, of whom the second named two categories.
    """

    column: str
    annotators: str = Field(default=";", min_length=1)
    categories: str = Field(default=",", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, raw: Any) -> Any:
        return {"column": raw} if isinstance(raw, str) else raw


class Fields(Config):
    """The source of each field of an `Utterance`; `id` and `label` are required."""

    id: Source
    label: Source
    audio: Source | None = None
    text: Source | None = None
    votes: Votes | None = None
    speaker: Source = Source(constant="unknown")
    session: Source = Source(constant="1")
    dialogue: Source | None = None  # without it, every utterance is a dialogue of its own
    turn: Source | None = None
    start: Source | None = None
    end: Source | None = None
    split: Source | None = None

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> Fields:
        if self.audio is None and self.text is None:
            raise ValueError("give a source for audio, for text, or for both")
        return self

    def sources(self) -> Iterator[tuple[str, Source]]:
        """The fields that have a source, less the votes."""
        for name in type(self).model_fields:
            source = getattr(self, name)
            if isinstance(source, Source):
                yield name, source


class Pattern(Config):
    """A regular expression that is searched in a column; its named groups are new columns."""

    column: str
    regex: str

    @field_validator("regex")
    @classmethod
    def _compiles(cls, regex: str) -> str:
        try:
            groups = re.compile(regex).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not groups:
            raise ValueError("it has no named group, (?P<name>…)")
        return regex

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the columns that it makes."""
        return tuple(re.compile(self.regex).groupindex)


class TableSpec(Config):
    """What a tabular corpus looks like; see `shards.corpora.table.reader`."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str = "corpus"
    tables: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    audio_files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    format: Format | None = None  # by the file's suffix
    encoding: str = "utf-8"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)  # by the format
    quoting: bool | None = None  # cells in double quotes; by default in csv and not in tsv
    line_breaks: bool | None = None  # whether a quoted cell may span lines; by default: see `table`
    segments: bool | None = None  # whether rows are parts of recordings; by default: see `table`
    patterns: tuple[Pattern, ...] = ()
    fields: Fields
    labels: dict[str, str] = Field(min_length=1)
    exact_labels: bool = False  # whether words that differ in case or blanks alone are different

    @field_validator("tables", "audio_files", mode="before")
    @classmethod
    def _by_split(cls, raw: Any) -> Any:
        groups = raw if isinstance(raw, dict) else {NO_SPLIT: raw}
        return {
            split: (patterns,) if isinstance(patterns, str) else patterns
            for split, patterns in groups.items()
        }

    @field_validator("tables", "audio_files")
    @classmethod
    def _inside_root(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for split, patterns in groups.items():
            if split != NO_SPLIT and split.lower() not in SPLITS:
                raise ValueError(
                    f"unknown split {split!r}{suggestion(split, SPLITS)}; "
                    f"known: {', '.join(SPLITS)}"
                )
            for pattern in patterns:
                path = PurePosixPath(pattern)
                if not path.parts or path.is_absolute() or ".." in path.parts:
                    raise ValueError(
                        f"{pattern!r} must be a path inside the corpus' root: set corpus.root to a "
                        "folder above (/ will do) and write the path from there"
                    )
        return groups

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)  # a codec that is not for text (hex, rot13) refuses
        except LookupError:
            raise ValueError(
                f"no encoding of text{suggestion(encoding, ENCODINGS)}; usual are "
                + ", ".join(ENCODINGS)
            ) from None
        return encoding

    @field_validator("labels", mode="before")
    @classmethod
    def _themselves(cls, raw: Any) -> Any:
        """A list names words that stand for themselves."""
        return {str(word): str(word) for word in raw} if isinstance(raw, list | tuple) else raw

    @field_validator("labels")
    @classmethod
    def _as_codes(cls, labels: dict[str, str]) -> dict[str, str]:
        codes = {word: code_of(meaning) for word, meaning in labels.items()}
        if empty := [word for word, code in codes.items() if not code]:
            raise ValueError(f"no emotion is given for {', '.join(map(repr, empty))}")
        return codes

    @model_validator(mode="after")
    def _one_kind(self) -> TableSpec:
        if bool(self.tables) == bool(self.audio_files):
            raise ValueError("give either tables or audio_files")
        return self
