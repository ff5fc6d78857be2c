"""What becomes of turns with problems: left out, or kept with the modality that they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from shards.corpora.base import MISSING_AUDIO, MISSING_TRANSCRIPT, Problem
from shards.corpora.utterance import Utterance


def settle(
    utterances: Iterable[Utterance], problems: Sequence[Problem], keep: bool
) -> tuple[list[Utterance], list[Problem]]:
    """The turns to use, and the problems that count: one a turn, the first.

    With `keep` (`output.incomplete: keep`), a turn that lacks its audio or its text stays with the
    other one. A missing text is then no problem. A missing recording still counts: a wrong root
    must not make a dataset of texts alone without a word.
    """
    kinds: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Problem] = {}
    for problem in problems:
        kinds[problem.where].add(problem.kind)
        first.setdefault(problem.where, problem)
    usable = []
    for one in utterances:
        lacks = kinds.get(one.id, set())
        if keep and lacks <= {MISSING_AUDIO, MISSING_TRANSCRIPT}:
            if MISSING_AUDIO in lacks:
                one = replace(one, audio=None, segment=None, embedded=None)
            if one.audio is None and one.text is None:
                continue
            if lacks == {MISSING_TRANSCRIPT}:
                del first[one.id]
            elif lacks:
                problem = first[one.id]
                first[one.id] = replace(problem, what=f"{problem.what}; kept with its text")
        elif lacks:
            continue
        usable.append(one)
    return usable, [*first.values()]
