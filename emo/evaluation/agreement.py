"""Predictions against the annotators: how near to their distributions, and how well they do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.corpora.labels import LabelSet

Votes = Sequence[Sequence[str]]  # of one turn: the codes that each annotator named


def agreement(
    votes: Sequence[Votes], probabilities: np.ndarray, label_set: LabelSet
) -> dict[str, Any]:
    """How a part's predictions [N, C] and its annotators agree.

    Returns `jensen_shannon`, the mean divergence in bits between prediction and votes over the
    `jensen_shannon_n` turns with votes in the label set, and `human`: see `human_ceiling`.
    """
    tables = [label_set.distribution(one) for one in votes]
    has_mass = np.array([dropped < 1 for _, dropped in tables])
    result: dict[str, Any] = {"jensen_shannon_n": int(has_mass.sum()), "jensen_shannon": None}
    if has_mass.any():
        wanted = np.stack([table for table, _ in tables])[has_mass]
        result["jensen_shannon"] = float(jensen_shannon(probabilities[has_mass], wanted).mean())
    result["human"] = human_ceiling(votes, label_set)
    return result


def human_ceiling(votes: Sequence[Votes], label_set: LabelSet) -> dict[str, Any]:
    """One annotator against the others: how often he names what they agree on.

    Each annotator of each turn in turn is the predictor; the truth is the class with the most votes
    of the others. Turns on which the others are divided, or agree on something outside the label
    set, have no truth for him and are left out (`n` counts what is left). A vote that names several
    categories counts in equal parts. Returns `wa` (None where nothing is left) and `n`.

    This is a ceiling of a kind: the truth that models are held to holds more votes than this one.
    """
    credit, count = 0.0, 0
    classes = len(label_set.classes)
    for turn in votes:
        if len(turn) < 2:
            continue
        own = np.zeros((len(turn), classes + 1))  # the last column: outside the label set
        for row, named in enumerate(turn):
            for code in named:
                own[row, label_set.class_of(code)] += 1 / len(named)  # -1 is the last column
        for row in range(len(turn)):
            others = own.sum(0) - own[row]
            best = others.max()
            winners = np.flatnonzero(others > best - 1e-9)
            if len(winners) == 1 and winners[0] < classes:
                credit += own[row, winners[0]]
                count += 1
    return {"wa": credit / count if count else None, "n": count}


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Divergence [N] of distributions `p` and `q` [N, C], in bits: 0 where equal, at most 1.

    Rows without any mass (no annotator's vote lies in the label set) give NaN: leave them out.
    """
    pair = [np.asarray(x, float) for x in (p, q)]
    with np.errstate(divide="ignore", invalid="ignore"):
        pair = [x / x.sum(axis=1, keepdims=True) for x in pair]
        middle = (pair[0] + pair[1]) / 2
        terms = [np.where(x == 0, 0.0, x * np.log2(x / middle)).sum(axis=1) for x in pair]
    return np.asarray((terms[0] + terms[1]) / 2)
