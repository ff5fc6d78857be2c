"""Emotion words: the codes that corpora share, and words of a corpus' own.

Any word may name an emotion. The codes of `utterance.CODES` are the common tongue: their names and
adjectives stand for them, so that `anger`, `Angry` and `ang` are one class in every corpus. Every
other word stands for itself, in lower case: `contempt`, `pleasant surprise`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from shards.corpora.utterance import CODES, NO_MAJORITY
from shards.errors import nearest

CODE_NAMES = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "sur": "surprise",
    "fea": "fear",
    "dis": "disgust",
    "oth": "other",
    "cal": "calm",
    "bor": "boredom",
}
# The same emotion in another form. Words that only mean something close to one (joy, rage, worry)
# are not here: some corpora tell them apart, and each spec says what it takes them for.
_FORMS = {
    "angry": "ang",
    "happy": "hap",
    "excited": "exc",
    "neutrality": "neu",
    "frustrated": "fru",
    "surprised": "sur",
    "fearful": "fea",
    "disgusted": "dis",
    "calmness": "cal",
    "bored": "bor",
}
_CODES = (
    {code: code for code in (*CODES, NO_MAJORITY)}
    | {name: code for code, name in CODE_NAMES.items()}
    | _FORMS
)
KNOWN = frozenset((*CODES, NO_MAJORITY))


def fold_word(word: str) -> str:
    """`word` in lower case, accents composed, blanks around it gone and those inside single."""
    return " ".join(unicodedata.normalize("NFC", word).lower().split())


def code_of(word: str) -> str:
    """The code of an emotion word: one of `CODES`, `NO_MAJORITY`, or the folded word itself."""
    folded = fold_word(word)
    return _CODES.get(folded, folded)


def meant(word: str) -> str | None:
    """The code or name that a `word` of nobody's may have been meant to be."""
    return nearest(word, [*CODE_NAMES, *CODE_NAMES.values()], cutoff=0.75)


def in_order(codes: Iterable[str]) -> list[str]:
    """`codes` as tables show them: those of `CODES`, then words in order, then `NO_MAJORITY`."""
    there = set(codes)
    own = sorted(there - KNOWN)
    return [code for code in (*CODES, *own, NO_MAJORITY) if code in there]
