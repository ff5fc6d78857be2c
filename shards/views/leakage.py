"""What the parts of a view have in common: reported for every view, refused where forbidden."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from shards.views.config import ViewConfig
from shards.views.protocols import PROTOCOLS
from shards.views.protocols.base import ALL_PAIRS, PARTS
from shards.views.turns import Turns, ViewError

Overlap = dict[str, dict[str, dict[str, float]]]

PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))
_REPORTED = ("speaker", "text", "dialogue")
_REPORTED_IF_KNOWN = "recording"  # datasets of older programs do not know it


def overlap_of(turns: Turns, members: dict[str, np.ndarray]) -> Overlap:
    """How many turns of one part have their speaker, text, dialogue or recording in another.

    Args:
        members: part name -> int64, the turns in it.

    Returns:
        `["train-test"]["speaker"]` = `{"turns": n, "share": n / turns of test}`, where n counts the
        turns of the second part whose speaker also occurs in the first; likewise for the other
        pairs and facts. Turns without text share no text. Recordings are there only if they are
        known.
    """
    report: Overlap = {}
    known = any(value is not None for value in turns.recording)
    for first, second in PAIRS:
        report[f"{first}-{second}"] = {}
        for fact in (*_REPORTED, *([_REPORTED_IF_KNOWN] if known else [])):
            count = len(_shared(turns, fact, members[first], members[second]))
            share = count / max(len(members[second]), 1)
            report[f"{first}-{second}"][fact] = {"turns": count, "share": share}
    return report


def check_rows(
    turns: Turns, labels: np.ndarray, rows: dict[str, np.ndarray], config: ViewConfig
) -> None:
    """Refuse rows that would leak from one part into another.

    Args:
        labels: int64 [rows of the dataset], -1 outside the label set.
        rows: part name -> int64, rows of the dataset.

    Raises:
        ViewError: a row is in a part twice, or outside the label set; an augmented variant is in
            validation or test; an utterance (or a variant of it) is in two parts; a speaker,
            dialogue, text, script or recording is in two parts that the protocol keeps apart.
    """
    members = {}
    for part in PARTS:
        own = rows[part]
        if len(np.unique(own)) != len(own):
            raise ViewError(f"the {part} part holds a row twice; make the view anew")
        if len(own) and labels[own].min() < 0:
            name = turns.ids[turns.of_row[own[labels[own].argmin()]]]
            raise ViewError(f"the {part} part holds {name}, which is outside the label set")
        if part != "train" and not turns.is_clean[own].all():
            name = turns.ids[turns.of_row[own[turns.is_clean[own].argmin()]]]
            raise ViewError(
                f"the {part} part holds an augmented copy of {name}; only clean turns are evaluated"
            )
        members[part] = np.unique(turns.of_row[own])
    for first, second in combinations(PARTS, 2):
        both = np.intersect1d(members[first], members[second])
        if len(both):
            raise ViewError(
                f"{len(both)} utterances (or copies of them) are both in {first} and in "
                f"{second}, for example {turns.ids[both[0]]}; split by utterance, never by sample"
            )
    protocol = PROTOCOLS[config.protocol]
    promises = protocol.keeps_apart(config)
    promises = promises | {"recording": ALL_PAIRS}
    across = in_several_corpora(turns) if protocol.splits_recordings else None
    for fact, pairs in promises.items():
        for pair in pairs:
            first, second = (part for part in PARTS if part in pair)
            shared = _shared(turns, fact, members[first], members[second])
            if fact == "recording" and across is not None:  # a corpus' own parts are not ours
                shared = shared[across[shared]]
            if len(shared):
                example = shared[0]
                raise ViewError(
                    f"{len(shared)} turns of the {second} part share their {fact} with the {first} "
                    f"part, for example {turns.ids[example]} "
                    f"({fact} {getattr(turns, fact)[example]!r}); {config.protocol} promises that "
                    f"none does: correct the corpus' {fact} names, or use another protocol"
                )


def in_several_corpora(turns: Turns) -> np.ndarray:
    """Whether the recording of each turn is in more than one corpus, bool [turns]."""
    recording, names = turns.coded("recording")
    corpus, corpora = turns.coded("corpus")
    both = (recording >= 0) & (corpus >= 0)
    pairs = np.unique(recording[both] * max(len(corpora), 1) + corpus[both])
    counts = np.bincount(pairs // max(len(corpora), 1), minlength=len(names) + 1)
    return (counts > 1)[recording] & both


def _shared(turns: Turns, fact: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The turns of `second` whose `fact` also occurs in `first`; an empty fact is never shared."""
    codes, names = turns.coded(fact)
    known = np.zeros(len(names) + 1, bool)
    known[codes[first]] = True
    known[:-1] &= names != ""
    known[-1] = False  # no value, which is coded as -1
    return second[known[codes[second]]]
