"""From the words in a table's label column to codes; what is not mapped is told word by word."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections import Counter
from collections.abc import Mapping

from shards.corpora.base import LISTED, Errors
from shards.corpora.table.spec import ANY
from shards.corpora.utterance import NO_MAJORITY
from shards.corpora.words import code_of, fold_word
from shards.errors import suggestion


class LabelWords:
    """A spec's `labels`, and the words that rows have beyond them."""

    def __init__(self, labels: Mapping[str, str], exact: bool) -> None:
        self._labels = labels
        self._exact = exact
        self._codes = {_composed(word): code for word, code in labels.items()}
        self._folded: dict[str, str | None] = {}
        for word, code in labels.items():
            # None: words that differ in case alone mean different things, so case decides.
            same = self._folded.setdefault(fold_word(word), code) == code
            self._folded[fold_word(word)] = code if same else None
        # Keys with a star, the longest first: `Other-*` before `*`.
        self._globs = sorted((word for word in labels if ANY in word), key=len, reverse=True)
        self._unknown: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def code(self, word: str | None, source: str) -> str:
        """The code of `word` at `source` (`file:line`); an unknown word is kept for `report`."""
        if found := self._codes.get(word or ""):
            return found
        written = _composed(word or "")
        code = self._codes.get(written)
        if code is None and not self._exact:
            code = self._folded.get(fold_word(written))
        if code is None and written.strip():
            code = self._by_glob(written)
        self._codes[written] = code = code or ""
        if code:
            return code
        self._unknown[written] += 1
        self._first.setdefault(written, source)
        return NO_MAJORITY

    def _by_glob(self, written: str) -> str | None:
        fold = str if self._exact else fold_word
        for word in self._globs:
            if fnmatch.fnmatchcase(fold(written), fold(word)):
                return code_of(written) if self._labels[word] == ANY else self._labels[word]
        return None

    def report(self, errors: Errors) -> None:
        """Add the unknown words to `errors`, one line a word, the most frequent first."""
        if not self._unknown:
            return
        known = ", ".join(map(repr, list(self._labels)[:LISTED]))
        more = ", …" * (len(self._labels) > LISTED)
        for number, (word, count) in enumerate(self._unknown.most_common()):
            shown = f"label {word!r}" if word.strip() else "the empty label"
            times = "once" if count == 1 else f"{count} times"
            remedy = (
                f"; known: {known}{more}; correct the table, or give each word a meaning in "
                "`labels` of the corpus' YAML file (an emotion, or xxx for none)"
            )
            errors.add(
                shown,
                f"unknown, {times}, first at {self._first[word]}{suggestion(word, self._labels)}"
                + remedy * (number == 0),
            )


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)
