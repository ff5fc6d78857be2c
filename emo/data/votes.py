"""Annotators' votes as targets: primary and secondary emotions, and annotation dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emo.data.config import AnnotationDropout
from shards.corpora.labels import LabelSet
from shards.errors import UserError, suggestion

Vote = Sequence[str]  # the codes that one annotator named, the primary one first
STEP = 0x9E3779B97F4A7C15  # of SplitMix64


def vote_shares(vote: Vote, label_set: LabelSet, primary: float | None) -> np.ndarray:
    """One annotator's vote as shares of the classes, float64 [C]; they sum to 1 or less.

    The first code has the share `primary`, the others have equal parts of the rest; with None, or
    alone, all have the same. What lies outside the label set has no share.
    """
    named = tuple(dict.fromkeys(vote))
    shares = np.zeros(len(label_set.classes))
    for place, code in enumerate(named):
        index = label_set.class_of(code)
        if primary is None or len(named) == 1:
            mass = 1 / len(named)
        else:
            mass = primary if place == 0 else (1 - primary) / (len(named) - 1)
        if index >= 0:
            shares[index] += mass
    return shares


def vote_target(
    votes: Sequence[Vote], label_set: LabelSet, primary: float | None
) -> np.ndarray | None:
    """The mean of all annotators' shares, scaled to sum to 1, float64 [C]; None if all are 0."""
    if primary is None:
        distribution, dropped = label_set.distribution(votes)
        return distribution if dropped < 1 else None
    total = np.zeros(len(label_set.classes))
    for one in votes:
        total += vote_shares(one, label_set, primary)
    return total / total.sum() if total.any() else None


class VoteTable:
    """The votes of every row of a dataset, and the targets that are left when some are dropped.

    It holds each annotation as the number of its kind (which codes, in which order), of which a
    corpus has few.

    Args:
        votes: of each row; rows whose target is not their votes have none.
        config: which annotations may be dropped, and what share of them.
        seed: with epoch, row and annotator it decides whether an annotation is dropped.

    Raises:
        UserError: `config` names a class that is not in the label set.
    """

    def __init__(
        self,
        votes: Sequence[Sequence[Vote]],
        label_set: LabelSet,
        primary: float | None,
        config: AnnotationDropout,
        seed: int,
    ) -> None:
        unknown = [name for name in config.classes if name not in label_set.classes]
        if unknown:
            raise UserError(
                f"data.annotation_dropout.classes: there is no class {', '.join(unknown)}"
                f"{suggestion(unknown[0], label_set.classes)}; the label set has "
                f"{', '.join(label_set.classes)}"
            )
        kinds: dict[tuple[str, ...], int] = {}
        flat = [kinds.setdefault(tuple(vote), len(kinds)) for row in votes for vote in row]
        self.kind = np.array(flat, np.int32)
        self.start = np.cumsum([0, *map(len, votes)])
        self.shares = np.stack(
            [vote_shares(kind, label_set, primary) for kind in kinds]
            or [np.zeros(len(label_set.classes))]
        )
        frequent = [label_set.classes.index(name) for name in config.classes]
        rare = np.delete(self.shares, frequent, axis=1).any(axis=1)
        # Only annotations that name frequent classes and nothing else are dropped.
        self.droppable: np.ndarray = np.atleast_1d(self.shares.any(axis=1) & ~rare)
        self.share, self.seed = config.share, seed

    def targets(self, rows: np.ndarray, epoch: int, targets_BC: np.ndarray) -> np.ndarray:
        """`targets_BC` of `rows` (int64 [B], -1: none) in `epoch`, float32 [B, C].

        Rows without votes keep their target; so do rows that would lose all their votes.
        """
        result = targets_BC.copy()
        for place, row in enumerate(rows.tolist()):
            if row < 0:
                continue
            kinds = self.kind[self.start[row] : self.start[row + 1]]
            chance = uniform(self.seed, epoch, row, len(kinds))
            dropped = self.droppable[kinds] & np.less(chance, self.share)
            kept = np.logical_not(dropped)
            total = self.shares[kinds[np.flatnonzero(kept)]].sum(axis=0)
            if total.any() and dropped.any():
                result[place] = total / total.sum()
        return result


def uniform(seed: int, epoch: int, row: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), float64, a pure function of the arguments.

    So any process that reads this row in this epoch draws the same (SplitMix64, Steele et al. 2014,
    applied once for each argument).
    """
    x = np.arange(count, dtype=np.uint64)
    for part in (seed, epoch, row):
        x = _mixed(x + np.uint64((part + 1) * STEP % 2**64))
    return (x >> np.uint64(11)) * 2.0**-53


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
