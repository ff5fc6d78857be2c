"""Predictions and annotators: distance of predictions to votes, and how annotators would score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.corpora.labels import LabelSet

Votes = Sequence[Sequence[str]]  # of one turn: for each annotator the codes that they named


def agreement(
    votes: Sequence[Votes], probabilities: np.ndarray, label_set: LabelSet
) -> dict[str, Any]:
    """How well a part's predictions [N, C] agree with its annotators.

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
    """The accuracy of one annotator, measured against the other annotators of the same turn.

    Each annotator of each turn is the predictor once; the truth is the class with the most votes of
    the others. A turn is left out for an annotator if the others are tied, or agree on something
    outside the label set. A vote that names several categories is divided equally among them.
    Returns `wa` (None if every turn was left out) and `n`, the number of votes that counted.

    As a ceiling for models this is rough, because their truth has one vote more.
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
            # A tolerance, since thirds of votes do not add up exactly: ties must stay ties.
            winners = np.flatnonzero(others > best - 1e-9)
            if len(winners) == 1 and winners[0] < classes:
                credit += own[row, winners[0]]
                count += 1
    return {"wa": credit / count if count else None, "n": count}


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Divergence [N] of distributions `p` and `q` [N, C], in bits: 0 if equal, at most 1.

    A row of zeros (no annotator's vote is in the label set) gives NaN: leave such rows out.
    """
    pair = [np.asarray(x, float) for x in (p, q)]
    with np.errstate(divide="ignore", invalid="ignore"):
        pair = [x / x.sum(axis=1, keepdims=True) for x in pair]
        middle = (pair[0] + pair[1]) / 2
        terms = [np.where(x == 0, 0.0, x * np.log2(x / middle)).sum(axis=1) for x in pair]
    return np.asarray((terms[0] + terms[1]) / 2)
