"""The settings of a tabular corpus: what its YAML file may say. `table` documents the format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from shards.configfile import Config
from shards.corpora.attributes import NAME, AttributeSource
from shards.corpora.expect import Release
from shards.corpora.table.layout import Layout, by_split, inside_root
from shards.corpora.words import code_of

ANY = "*"  # as a label: every other word; as what it means: the word itself

_PLACE = re.compile(r"\{([^{}]+)\}")


class Source(Config):
    """Where a field's value comes from: exactly one of the first four, then perhaps a map.

    A plain string stands for a column, or for a template if it has braces.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    column: str | None = None
    template: str | None = None
    constant: str | None = None
    file: str | None = None  # a template of a path inside the root: what the file holds
    map: dict[str, str] = Field(default_factory=dict)  # the corpus' own words -> ours

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            return {"template" if _PLACE.search(raw) else "column": raw}
        return raw

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        given = [self.column, self.template, self.constant, self.file]
        if sum(item is not None for item in given) != 1:
            raise ValueError("give exactly one of column, template, constant and file")
        return self

    @cached_property
    def parts(self) -> tuple[tuple[bool, str], ...]:
        """The value's pieces in order: (is a column's name, text)."""
        if self.column is not None:
            return ((True, self.column),)
        if self.constant is not None:
            return ((False, self.constant),)
        pieces = _PLACE.split(self.template or self.file or "")
        return tuple((place % 2 == 1, text) for place, text in enumerate(pieces) if text)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the value needs."""
        return tuple(text for is_column, text in self.parts if is_column)


class Votes(Config):
    """All annotators' votes: a column with a list or a string with separators, or one of counts.

    `anger;anger,frustration;neutral` is three annotators, of whom the second named two categories.
    `counts` names a column for each label that has the number of those who named it.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    column: str | None = None
    annotators: str = Field(default=";", min_length=1)
    categories: str = Field(default=",", min_length=1)
    counts: dict[str, str] = Field(default_factory=dict)  # column -> label

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, raw: Any) -> Any:
        return {"column": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _one_form(self) -> Votes:
        if (self.column is None) == (not self.counts):
            raise ValueError("give either a column or counts")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the votes need."""
        return tuple(self.counts) if self.column is None else (self.column,)


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
        files = [name for name, source in self.sources() if source.file is not None]
        if files not in ([], ["text"]):
            raise ValueError("only `text` can be what a file holds")
        return self

    def sources(self) -> Iterator[tuple[str, Source]]:
        """The fields that have a source, less the votes."""
        for name in type(self).model_fields:
            source = getattr(self, name)
            if isinstance(source, Source):
                yield name, source


class Nearest(Config):
    """Of several rows with the same key, the one whose number is nearest to the row's own."""

    column: str  # of the joined table
    to: str  # of the row
    within: float = Field(gt=0)  # the largest difference


class Join(Layout):
    """Another table whose rows belong to those of the corpus by a key."""

    key: Source  # in the other table
    on: Source  # in the corpus' rows, or those of an earlier join
    columns: dict[str, str] = Field(min_length=1)  # the new columns, and what they are called there
    many: bool = False  # several rows a key: each new column is a list
    optional: bool = False  # whether its files may be missing
    nearest: Nearest | None = None

    @field_validator("columns", mode="before")
    @classmethod
    def _same_names(cls, raw: Any) -> Any:
        return {name: name for name in raw} if isinstance(raw, list | tuple) else raw

    @model_validator(mode="after")
    def _has_tables(self) -> Join:
        if not self.tables:
            raise ValueError("give the join its tables")
        if self.many and self.nearest is not None:
            raise ValueError("many takes all rows of a key, nearest takes one: give either")
        return self

    def needed(self) -> set[str]:
        """The columns that its tables must have, or its patterns make."""
        near = {self.nearest.column} if self.nearest else set()
        return {*self.key.columns, *self.columns.values(), *near}

    def needed_before(self) -> set[str]:
        """The columns that the corpus' rows must have."""
        return {*self.on.columns, *([self.nearest.to] if self.nearest else [])}


class TableSpec(Layout):
    """What a tabular corpus looks like; see `shards.corpora.table.reader`."""

    name: str = "corpus"
    audio_files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    segments: bool | None = None  # whether rows are parts of recordings; by default: see `table`
    joins: tuple[Join, ...] = ()
    columns: dict[str, Source] = Field(default_factory=dict)  # more columns, made of the others
    fields: Fields
    attributes: dict[Annotated[str, Field(pattern=NAME)], AttributeSource] = Field(
        default_factory=dict
    )
    labels: dict[str, str] = Field(min_length=1)
    exact_labels: bool = False  # whether words that differ in case or blanks alone are different
    bad_audio: dict[str, str] = Field(default_factory=dict)  # id -> what is wrong with it
    expect: tuple[Release, ...] = ()

    @field_validator("audio_files", mode="before")
    @classmethod
    def _files_by_split(cls, raw: Any) -> Any:
        return by_split(raw)

    @field_validator("audio_files")
    @classmethod
    def _files_inside_root(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return inside_root(groups)

    @field_validator("labels", mode="before")
    @classmethod
    def _themselves(cls, raw: Any) -> Any:
        """`any`: all words stand for themselves; a list: these do."""
        if isinstance(raw, list | tuple):
            return {str(word): str(word) for word in raw}
        return {ANY: ANY} if raw == "any" else raw

    @field_validator("labels")
    @classmethod
    def _as_codes(cls, labels: dict[str, str]) -> dict[str, str]:
        codes = {word: code_of(meaning) for word, meaning in labels.items()}
        if empty := [word for word, code in codes.items() if not code]:
            raise ValueError(f"no emotion is given for {', '.join(map(repr, empty))}")
        return codes

    @field_validator("expect", mode="before")
    @classmethod
    def _one_release(cls, raw: Any) -> Any:
        return [raw] if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _one_kind(self) -> TableSpec:
        if bool(self.tables) == bool(self.audio_files):
            raise ValueError("give either tables or audio_files")
        return self

    def used_joins(self) -> tuple[Join, ...]:
        """The joins that bring a column which is needed, in their order."""
        used: list[Join] = []
        needed = self._after_joins()
        for join in reversed(self.joins):
            if needed & join.columns.keys():
                used.append(join)
                needed |= join.needed_before()
        return tuple(reversed(used))

    def needed_columns(self) -> set[str]:
        """The columns that the corpus' rows must have, those that joins add left out."""
        needed, joins = self._after_joins(), self.used_joins()
        added = {new for join in joins for new in join.columns}
        return (needed - added).union(*(join.needed_before() - added for join in joins))

    def _after_joins(self) -> set[str]:
        """The columns that the fields need, or the new columns which they need."""
        needed = {column for _, source in self.fields.sources() for column in source.columns}
        needed |= set(self.fields.votes.columns if self.fields.votes else ())
        needed |= {column for one in self.attributes.values() for column in one.columns}
        for name, source in reversed(self.columns.items()):
            if name in needed:
                needed = needed - {name} | set(source.columns)
        return needed
