"""From rows to turns: the facts by which views are drawn, one entry an utterance.

A dataset has a row for each sample, so several for one utterance (its variants). What decides the
part of an utterance are facts of the utterance. Here rows are grouped into utterances, and rows
that contradict each other are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.augment import CLEAN

_SHARED = ("label", "speaker", "session", "dialogue", "split")  # the same for all variants
COLUMNS = ("utterance", "variant", *_SHARED, "text", "turn", "recording")

_TAG = re.compile(r"\[[^\]]*\]")
_WORD = re.compile(r"\w+")
_SCRIPT = re.compile(r"script\d+(?:_\d+)?")


class ViewError(UserError):
    """A view that cannot be made of these rows, or whose parts would leak into each other."""


@dataclass(frozen=True)
class Turns:
    """Facts of `n` utterances, sorted by id, and how `rows` belong to them.

    `of_row` int64 [rows]: the utterance of each row. `clean` int64 [n]: its clean row.
    `is_clean` bool [rows]. The rest are object arrays [n]: `text` is normalised (see
    `normalise_text`), "" where there is none; `script` is "" for a turn that follows no script;
    `recording` names the sound, None where it is not known: turns of one name sound the same.
    """

    ids: np.ndarray
    of_row: np.ndarray
    clean: np.ndarray
    is_clean: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    session: np.ndarray
    dialogue: np.ndarray
    split: np.ndarray
    text: np.ndarray
    script: np.ndarray
    turn: np.ndarray
    recording: np.ndarray


def turns_of(source: Mapping[str, Any] | Sequence[Utterance]) -> Turns:
    """The turns behind index columns, or behind a corpus' utterances, which count as clean rows.

    Columns are those of `COLUMNS`, as sequences of equal length or pyarrow columns; `text`,
    `split`, `turn` and `recording` may be missing.

    Raises:
        ViewError: a column is missing, a sample occurs twice, an utterance has no clean sample, or
            the samples of an utterance disagree about label, speaker, session, dialogue or split.
    """
    columns = _columns(source)
    utterance, variant = columns["utterance"], columns["variant"]
    ids = np.array(sorted(set(utterance)), dtype=object)
    number = {name: index for index, name in enumerate(ids)}
    of_row = np.fromiter((number[name] for name in utterance), np.int64, len(utterance))
    is_clean = variant == CLEAN

    if len(set(zip(utterance, variant, strict=True))) != len(utterance):
        seen: set[tuple[str, str]] = set()
        for pair in zip(utterance, variant, strict=True):
            if pair in seen:
                raise ViewError(
                    f"sample {pair[0]} ({pair[1]}) is in the index twice; rebuild the shards"
                )
            seen.add(pair)
    clean = np.full(len(ids), -1, np.int64)
    clean[of_row[is_clean]] = np.flatnonzero(is_clean)
    if (clean < 0).any():
        raise ViewError(
            f"utterance {ids[clean.argmin()]} has no {CLEAN} sample, and only those may be "
            "evaluated; rebuild the shards"
        )
    for name in _SHARED:
        differs = columns[name] != columns[name][clean[of_row]]
        if differs.any():
            row = int(differs.argmax())
            raise ViewError(
                f"the samples of utterance {utterance[row]} disagree: {name} is "
                f"{columns[name][row]!r} in variant {variant[row]!r} and "
                f"{columns[name][clean[of_row[row]]]!r} in {CLEAN!r}; an utterance and its copies "
                "must be in one part, so rebuild the shards"
            )
    facts = {name: columns[name][clean] for name in (*_SHARED, "turn", "recording")}
    text = _objects([normalise_text(value) for value in columns["text"][clean]])
    script = _objects([script_of(dialogue) for dialogue in facts["dialogue"]])
    return Turns(ids, of_row, clean, is_clean, text=text, script=script, **facts)


def normalise_text(text: str | None) -> str:
    """A transcript without tags, case and punctuation: equal results count as the same text."""
    return " ".join(_WORD.findall(_TAG.sub(" ", text).casefold())) if text else ""


def script_of(dialogue: str) -> str:
    """The script that a dialogue follows, from its name; "" for none.

    IEMOCAP's five sessions play the same scripts: `Ses01F_script01_1`, `Ses05M_script01_1b` and
    `Ses02M_script01_1` are all `script01_1`.
    """
    match = _SCRIPT.search(dialogue)
    return match.group() if match else ""


def _columns(source: Mapping[str, Any] | Sequence[Utterance]) -> dict[str, np.ndarray]:
    given: Mapping[str, Any]
    if isinstance(source, Mapping):
        given = source
    else:
        # Only a build knows the sounds: a reader does not decode.
        names = [name for name in COLUMNS[2:] if name != "recording"]
        given = {name: [getattr(item, name) for item in source] for name in names}
        given |= {"utterance": [item.id for item in source], "variant": [CLEAN] * len(source)}
    missing = [name for name in COLUMNS if name not in given and name not in _OPTIONAL]
    if missing:
        raise ViewError(f"the index lacks the columns {', '.join(missing)}; rebuild the shards")
    rows = len(given["utterance"])
    columns = {}
    for name in COLUMNS:
        values = given.get(name, [None] * rows)
        values = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
        if len(values) != rows:
            raise ViewError(f"column {name} has {len(values)} rows, utterance has {rows}")
        columns[name] = _objects(values)
    return columns


_OPTIONAL = ("text", "split", "turn", "recording")


def _objects(values: list[Any]) -> np.ndarray:
    # Not np.array(values): its dtype would depend on the values (fixed-width strings, integers).
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
