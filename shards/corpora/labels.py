"""Label sets: which emotion codes make which class, and what annotators' votes mean in them.

A turn's label is a code that corpora share or a word of its corpus (`words.py`); a label set groups
them into the classes of one experiment, and may name them by code or word. What is outside the set,
and turns without a majority (`xxx`), belongs to no class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from shards.corpora.utterance import CODES, NO_MAJORITY
from shards.corpora.words import CODE_NAMES, code_of
from shards.errors import UserError, suggestion


def _one_class_each(codes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {name: (code,) for name, code in sorted((CODE_NAMES[code], code) for code in codes)}


# Classes are in alphabetical order; their numbers follow from it, so never reorder them. Excited
# turns *join* happiness in the sets of four and five (they do not replace it), and are a class of
# their own in the larger sets.
LABEL_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "four": {
        "anger": ("ang",),
        "happiness": ("hap", "exc"),
        "neutral": ("neu",),
        "sadness": ("sad",),
    },
    "five": {
        "anger": ("ang",),
        "frustration": ("fru",),
        "happiness": ("hap", "exc"),
        "neutral": ("neu",),
        "sadness": ("sad",),
    },
    "six": _one_class_each(("ang", "exc", "fru", "hap", "neu", "sad")),
    "eight": _one_class_each(("ang", "exc", "fea", "fru", "hap", "neu", "sad", "sur")),
    "all": _one_class_each(CODES),
}


class LabelSetError(UserError):
    """A label set that is unknown, or whose classes and codes are not valid."""


@dataclass(frozen=True)
class LabelSet:
    """Classes in their fixed order, each with the codes (and words) that it gathers."""

    name: str
    classes: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {code: index for index, codes in enumerate(self.codes) for code in codes}

    def class_of(self, code: str) -> int:
        """The class index of a hard label; -1 for a code outside the set and for `xxx`."""
        return self._index.get(code, -1)

    def distribution(self, votes: Sequence[Sequence[str]]) -> tuple[np.ndarray, float]:
        """Annotators' votes as shares of the classes.

        Each of the n annotators has mass 1/n, divided equally among the categories that they named.
        Mass outside the set is dropped, and the rest scaled to sum to 1.

        Args:
            votes: one entry for each annotator, the codes that they named.

        Returns:
            float64 [classes], summing to 1 (all zeros when no mass is left), and the dropped mass
            in 0..1 (1 when there are no votes).
        """
        shares = np.zeros(len(self.classes))
        for vote in votes:
            named = tuple(dict.fromkeys(vote))
            for code in named:
                index = self.class_of(code)
                if index >= 0:
                    shares[index] += 1.0 / (len(votes) * len(named))
        kept = float(shares.sum())
        if kept == 0.0:
            return shares, 1.0
        return shares / kept, max(0.0, 1.0 - kept)


def label_set(spec: str | Mapping[str, Sequence[str]]) -> LabelSet:
    """The label set called `spec`, or one made of a map from class names to codes (in its order).

    A map may name a code by its word: `anger: [ang]` and `anger: [angry]` are the same class.

    Raises:
        LabelSetError: the name is unknown, a code is used twice, a class has no code, or there are
            fewer than two classes.
    """
    if isinstance(spec, str):
        if spec not in LABEL_SETS:
            raise LabelSetError(
                f"unknown label set {spec!r}: use one of {', '.join(LABEL_SETS)}, "
                f"or a map from class names to codes or words{suggestion(spec, LABEL_SETS)}"
            )
        groups: Mapping[str, Sequence[str]] = LABEL_SETS[spec]
        name = spec
    else:
        _check_groups(spec)
        groups = {one: [*map(code_of, words)] for one, words in spec.items()}
        name = "custom"
    return LabelSet(name, tuple(groups), tuple(tuple(codes) for codes in groups.values()))


def _check_groups(groups: Mapping[str, Sequence[str]]) -> None:
    problems = []
    if len(groups) < 2:
        problems.append(f"it has {len(groups)} class(es), but a set needs at least two")
    owner: dict[str, str] = {}
    for name, codes in groups.items():
        if isinstance(codes, str):
            problems.append(f"class {name!r}: write its codes as a list, [{codes}]")
            continue
        if not codes:
            problems.append(f"class {name!r} has no codes")
        for word in codes:
            code = code_of(word)
            if not code:
                problems.append(f"class {name!r} names an empty word")
            elif code == NO_MAJORITY:
                problems.append(
                    f"class {name!r}: {NO_MAJORITY} marks turns without a majority; it is no class"
                )
            elif code in owner:
                problems.append(f"{word!r} is in {owner[code]!r} and again in {name!r}")
            else:
                owner[code] = name
    if problems:
        raise LabelSetError("this label set cannot be used:\n  " + "\n  ".join(problems))


def _known(spec: str | dict[str, tuple[str, ...]]) -> str | dict[str, tuple[str, ...]]:
    label_set(spec)
    return spec


# In a configuration, checked there: a name of `LABEL_SETS`, or a map from class names to codes.
LabelSpec = Annotated[str | dict[str, tuple[str, ...]], AfterValidator(_known)]
