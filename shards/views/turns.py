"""From rows to turns: the facts by which views are drawn, one entry an utterance.

A dataset has a row for each sample, so several for one utterance (its variants). What decides the
part of an utterance are facts of the utterance. Here rows are grouped into utterances, and rows
that contradict each other are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.augment import CLEAN
from shards.views.codes import encode, objects

_SHARED = ("label", "speaker", "session", "dialogue", "split")  # the same for all variants
COLUMNS = ("utterance", "variant", *_SHARED, "text", "turn", "recording")  # of an index
CORPUS = "corpus"  # a column where rows are of several corpora
_ALL = (*COLUMNS, CORPUS)
_OPTIONAL = ("text", "split", "turn", "recording", CORPUS)

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
    `corpus` is None where there is only one. `turn` is int64, 0 where it is not known.
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
    corpus: np.ndarray
    _codes: dict[str, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def coded(self, fact: str) -> tuple[np.ndarray, np.ndarray]:
        """`encode` of the fact (`speaker`, `text`, …), done once."""
        if fact not in self._codes:
            self._codes[fact] = encode(getattr(self, fact))
        return self._codes[fact]


def turns_of(source: Mapping[str, Any] | Sequence[Utterance]) -> Turns:
    """The turns behind index columns, or behind a corpus' utterances, which count as clean rows.

    Columns are those of `COLUMNS` and `CORPUS`, as sequences of equal length, numpy arrays or
    pyarrow columns; `text`, `split`, `turn`, `recording` and `corpus` may be missing.

    Raises:
        ViewError: a column is missing, a sample occurs twice, an utterance has no clean sample, or
            the samples of an utterance disagree about label, speaker, session, dialogue or split.
    """
    columns = _columns(source)
    of_row, ids = encode(columns["utterance"])
    variant, variants = encode(columns["variant"])
    is_clean = (variants == CLEAN)[variant]
    pair = of_row * max(len(variants), 1) + variant
    once, first = np.unique(pair, return_index=True)
    if len(once) < len(pair):
        again = np.ones(len(pair), bool)
        again[first] = False
        row = int(again.argmax())
        raise ViewError(
            f"sample {ids[of_row[row]]} ({variants[variant[row]]}) is in the index twice; rebuild "
            "the shards"
        )
    clean = np.full(len(ids), -1, np.int64)
    clean[of_row[is_clean]] = np.flatnonzero(is_clean)
    if (clean < 0).any():
        raise ViewError(
            f"utterance {ids[clean.argmin()]} has no {CLEAN} sample, and only those may be "
            "evaluated; rebuild the shards"
        )
    facts: dict[str, np.ndarray] = {}
    for name in _SHARED:
        codes, names = encode(columns[name])
        differs = codes != codes[clean[of_row]]
        if differs.any():
            row = int(differs.argmax())
            own, others = (
                None if code < 0 else names[code]
                for code in (codes[row], codes[clean[of_row[row]]])
            )
            raise ViewError(
                f"the samples of utterance {ids[of_row[row]]} disagree: {name} is {own!r} in "
                f"variant {variants[variant[row]]!r} and {others!r} in {CLEAN!r}; an utterance and "
                "its copies must be in one part, so rebuild the shards"
            )
        facts[name] = _values(codes[clean], names)
    for name in ("recording", CORPUS):
        codes, names = encode(columns[name])
        facts[name] = _values(codes[clean], names)
    codes, texts = encode(columns["text"])
    facts["text"] = _values(codes[clean], objects([normalise_text(text) for text in texts]), "")
    codes, dialogues = encode(columns["dialogue"])
    facts["script"] = _values(codes[clean], objects([script_of(name) for name in dialogues]), "")
    return Turns(ids, of_row, clean, is_clean, turn=_integers(columns["turn"])[clean], **facts)


def _values(codes: np.ndarray, names: np.ndarray, missing: str | None = None) -> np.ndarray:
    """What `codes` stand for, objects; `missing` for -1."""
    return objects([*names, missing])[codes]  # -1 is the last


def _integers(values: Any) -> np.ndarray:
    """Whole numbers, int64; 0 for no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(values, from_pandas=True)
    return np.asarray(pc.fill_null(values.cast(pa.int64()), 0).to_numpy())


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


def _columns(source: Mapping[str, Any] | Sequence[Utterance]) -> dict[str, Any]:
    given: Mapping[str, Any]
    if isinstance(source, Mapping):
        given = source
    else:
        # Only a build knows the sounds: a reader does not decode.
        names = [name for name in COLUMNS[2:] if name != "recording"]
        given = {name: [getattr(item, name) for item in source] for name in names}
        given |= {"utterance": [item.id for item in source], "variant": [CLEAN] * len(source)}
    missing = [name for name in _ALL if name not in given and name not in _OPTIONAL]
    if missing:
        raise ViewError(f"the index lacks the columns {', '.join(missing)}; rebuild the shards")
    rows = len(given["utterance"])
    columns = {}
    for name in _ALL:
        values = given.get(name)
        columns[name] = [None] * rows if values is None else values
        if len(columns[name]) != rows:
            raise ViewError(f"column {name} has {len(columns[name])} rows, utterance has {rows}")
    return columns
