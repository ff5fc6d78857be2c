"""Reads any corpus that is a table: JSONL, CSV, TSV, Parquet, or a folder with coded file names.

A YAML file (`configs/corpora/*.yaml`) describes the table; a new corpus needs no Python:

```yaml
name: my corpus
tables: metadata.csv            # or one a split: {train: a.csv, val: b.csv, test: [c.csv, d.csv]};
                                # paths are relative to the root and may be glob patterns.
# audio_files: "*/*.wav"        # instead of tables: every audio file is a row
format: csv                     # or another of `layout.Format`; default: by the file's suffix
encoding: utf-8                 # the default; a list: the first that fits the file
delimiter: ";"                  # default: a comma in csv, a tab in tsv
quoting: true                   # cells in double quotes; default: in csv, not in tsv
line_breaks: true               # quoted cells may span lines; default: in csv, unless each line
                                # would be a row by itself (a quote that is never closed)
header: [key, sentence]         # the columns' names, where the file has none
bad_lines: skip                 # lines with more or fewer cells; default: refuse
segments: true                  # start and end are places in the recording, and cut from it;
                                # default: they are if rows with different times share a recording;
                                # false: never, even where the times would fit inside the recording
patterns:                       # named groups of a regular expression become columns
  - {column: path, regex: '(?P<speaker>\\d+)_(?P<emotion>[A-Z]+)\\.wav$'}
where: {part: '^(a|b)$'}        # only rows whose columns fit these regular expressions
joins:                          # rows of other tables; each may say all of the above
  - tables: transcripts.csv
    key: name                   # there: a column or template ...
    on: "{key}.wav"             # ... and what it equals here
    columns: {sentence: text}   # our new columns, and what they are called there
    many: true                  # several rows a key: lists; default: the first
    nearest: {column: begin, to: start, within: 0.1}    # or of several the nearest in time
fields:
  id: key                       # a column ...
  audio: "wav/{speaker}/{key}.wav"        # ... or a template of columns ...
  session: {constant: "1"}                # ... or a constant ...
  text: {column: sentence, map: {s1: Good morning., s2: Good night.}}   # ... and perhaps a map;
                                # {file: "text/{key}.txt"} is what that file holds
  label: emotion                # goes through `labels`
  votes: {column: votes, annotators: ";", categories: ","}   # or a column of lists, or
                                # {counts: {angry: anger, happy: joy}}: columns of numbers
  speaker: speaker
  dialogue: "{split}-{scene}"
  turn: line                    # a number; turns are sorted by turn, start, place in the table
  start: begin                  # seconds, 1.5s, hours:minutes:seconds, 0 days 00:00:01.5
  end: end
  split: part                   # train, val (dev, valid, validation), test
attributes:                     # numbers on a scale; of a corpus without them, nothing
  arousal: {column: EmoAct, scale: [1, 7]}            # the release's mean, and perhaps
  valence: {column: EmoVal, votes: all_val, separator: ";", scale: [1, 7]}   # all raters' values
labels: {anger: ang, joy: hap, scorn: contempt, "no ag*": xxx}  # the corpus' own words (`*` is any
                                # text) -> codes of utterance.py, or any word; `any`: all words
                                # mean themselves. Case and blanks do not matter,
exact_labels: true              # unless the spec says so
bad_audio: {k17: no sound}      # recordings that are left out, and why
expect: {rows: 900, speakers: 4, classes: {anger: 300}, splits: {test: 90}}    # of the release;
                                # or a list of several, each with its name as `release`
```
Words and numbers of the file are read as they are written: 01 is not 1, and no is a word.
`id`, `label`, and one of `audio` and `text` are required. Left out, `votes` is one vote for the
label, `speaker` "unknown", `session` "1", `dialogue` the utterance itself, and `split` the key of
the table in `tables`. Rows also have the columns that `rows` lists (split, folder, stem, row,
and for audio files path and name). Audio paths are relative to the root and may not leave it.
"""

from __future__ import annotations

import gc
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from shards.configfile import Config, load
from shards.corpora.base import (
    Corpus,
    CorpusError,
    Errors,
    Modality,
    check_problems,
    count_table,
    listing,
    same_recordings,
)
from shards.corpora.expect import compare
from shards.corpora.incomplete import settle
from shards.corpora.table.joins import join
from shards.corpora.table.layout import SpecLoader
from shards.corpora.table.rows import Reading, Row
from shards.corpora.table.spec import TableSpec
from shards.corpora.table.times import cut_segments, time_notes
from shards.corpora.table.turns import Order, Places, RowReader
from shards.corpora.utterance import Utterance
from shards.corpora.words import KNOWN, meant

MOST_COLUMNS = 12  # a count table with more groups than this is not read by anybody


class TableConfig(Config):
    """Which corpus, where it is, and what to read of it.

    `spec` is the path of a YAML file, or its content. A path is replaced by the content, so that a
    stored configuration does not depend on the file.
    """

    reader: Literal["table"] = "table"
    root: Path
    spec: TableSpec
    audio_root: Path | None = None  # where audio paths begin, if not at `root`
    absolute_paths: bool = False  # whether audio paths may lead anywhere
    modalities: tuple[Modality, ...] = Field(default=("audio", "text"), min_length=1)
    max_problems: int = Field(default=0, ge=0)  # turns without audio or transcript that are allowed

    @field_validator("spec", mode="before")
    @classmethod
    def _load(cls, spec: Any) -> Any:
        return load(TableSpec, spec, loader=SpecLoader) if isinstance(spec, str | Path) else spec

    def read(self, keep_incomplete: bool = False) -> Corpus:
        """Read the corpus; see `read` below."""
        with _no_search_for_cycles():
            return read(self, keep_incomplete)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """A large corpus is millions of small objects, none in a cycle: looking takes a quarter."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read(config: TableConfig, keep_incomplete: bool = False) -> Corpus:
    """Read every row of the corpus.

    Args:
        keep_incomplete: as `incomplete.settle`'s `keep`.

    Raises:
        CorpusError: the root, a table or a column is missing; rows have errors (the message lists
            them all); or more than `max_problems` turns lack their audio file or text.
    """
    root = Path(os.path.abspath(config.root.expanduser()))
    spec = _wanted(config)
    if not root.is_dir():
        raise CorpusError(
            f"there is no corpus folder {root}: set corpus.root to the folder of {spec.name} "
            f"that holds {', '.join(_places(spec))}"
        )
    errors = Errors()
    files: list[str] = []
    rows = _read_rows(spec, Reading(spec.name, root, spec.labels, errors, files))
    reader = RowReader(spec, Places(root, config.audio_root, config.absolute_paths), errors)
    turns = [turn for number, row in enumerate(rows) if (turn := reader.read(row, number))]
    utterances = cut_segments(_number_turns(turns), spec.segments, reader.problems)
    _check_dialogues(utterances, errors)
    reader.words.report(errors)
    errors.raise_if_any(root)
    everything = utterances
    bad = {problem.where: problem for problem in reader.bad_audio}
    utterances, problems = settle(
        [one for one in everything if one.id not in bad],
        [problem for problem in reader.problems if problem.where not in bad],
        keep_incomplete,
    )
    notes = [
        *_describe(spec, root, utterances),
        *compare(everything, spec.expect),
        *files,
        *time_notes(utterances),
        *same_recordings(utterances),
    ]
    notes += check_problems(problems, config.max_problems, root)
    if bad:
        lines = [f"{one.where}: {one.what}" for one in bad.values()]
        notes.append(f"left out, since their recordings are known to be bad:\n{listing(lines)}")
    found = sorted(utterances, key=lambda item: item.id)
    return Corpus(found, notes, [*problems, *bad.values()])


def _read_rows(spec: TableSpec, reading: Reading) -> list[Row]:
    if spec.audio_files:
        rows = reading.audio_files(spec, spec.audio_files, spec.needed_columns())
    else:
        rows = reading.tables(spec, spec.needed_columns())
    for one in spec.used_joins():
        join(rows, one, reading)
    return rows


def _wanted(config: TableConfig) -> TableSpec:
    """The spec without modalities that are not read: their columns may then be missing."""
    unread = [kind for kind in ("audio", "text") if kind not in config.modalities]
    fields = config.spec.fields.model_copy(update=dict.fromkeys(unread))
    if fields.audio is None and fields.text is None:
        raise CorpusError(
            f"{config.spec.name} has no {' and no '.join(config.modalities)}: change "
            "corpus.modalities, or add the field to the corpus' YAML file"
        )
    return config.spec.model_copy(update={"fields": fields})


def _places(spec: TableSpec) -> list[str]:
    groups = spec.tables or spec.audio_files
    return [pattern for patterns in groups.values() for pattern in patterns]


def _number_turns(turns: list[tuple[Utterance, Order]]) -> list[Utterance]:
    """Utterances with their turns numbered from 0 in each dialogue, in order."""
    dialogues: dict[str, list[tuple[Order, Utterance]]] = defaultdict(list)
    for utterance, order in turns:
        dialogues[utterance.dialogue].append((order, utterance))
    return [
        replace(utterance, turn=number) if number else utterance
        for members in dialogues.values()
        for number, (_, utterance) in enumerate(sorted(members, key=lambda member: member[0]))
    ]


def _check_dialogues(utterances: list[Utterance], errors: Errors) -> None:
    """Refuse dialogue names that are used in several splits: they would join unrelated turns."""
    splits: dict[str, dict[str | None, str]] = defaultdict(dict)
    for utterance in utterances:
        splits[utterance.dialogue].setdefault(utterance.split, utterance.source)
    for dialogue, places in splits.items():
        if len(places) > 1:
            named = ", ".join(f"{split} ({source})" for split, source in places.items())
            errors.add(
                f"dialogue {dialogue!r}",
                f"is in several splits: {named}; if these are different dialogues, write {{split}} "
                "into the template of `dialogue`",
            )


def _describe(spec: TableSpec, root: Path, utterances: list[Utterance]) -> list[str]:
    speakers = len({item.speaker for item in utterances})
    dialogues = len({item.dialogue for item in utterances})
    notes = [
        f"{spec.name} in {root}: {len(utterances)} utterances, {dialogues} dialogues, "
        f"{speakers} speakers"
    ]
    if spec.fields.speaker.constant is not None:
        notes.append("no speakers are named: no protocol can keep them apart")
    notes += _own_words(utterances)
    splits = Counter(item.split for item in utterances)
    if set(splits) != {None}:
        notes.append(count_table(((str(i.split), i.label) for i in utterances), "by split"))
    sessions = {item.session for item in utterances}
    if len(sessions) <= MOST_COLUMNS:
        notes.append(count_table(((i.session, i.label) for i in utterances), "by session"))
    else:
        notes.append(count_table((("turns", i.label) for i in utterances), "by class"))
    return notes


def _own_words(utterances: list[Utterance]) -> list[str]:
    counts = Counter(one.label for one in utterances if one.label not in KNOWN)
    if not counts:
        return []
    lines = []
    for word, count in counts.most_common():
        hint = f" (did you mean {near!r}?)" if (near := meant(word)) else ""
        lines.append(f"{word} {count}{hint}")
    return [
        f"emotions of this corpus' own, which take part where a label set names them: "
        f"{', '.join(lines)}"
    ]
