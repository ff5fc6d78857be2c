"""The interface of a source of samples (`SampleSource`), and the batch that it makes.

There are two sources: `emo.data.utterances`, whose units are rows of a dataset, and
`emo.data.dialogues`, whose units are whole dialogues. Plans order units, and sources turn them into
batches. Nothing after that depends on which of the two it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from emo.data.augment.draws import Draws
from emo.data.config import AnnotationDropout, DataConfig, folders_of
from emo.data.corpora.masks import ClassMasks
from emo.data.normalise.base import Normaliser
from emo.data.votes import VoteTable, vote_target
from shards.errors import UserError
from shards.store.index import Dataset
from shards.views.view import View

Lengths = Mapping[str, int]  # what a batch is padded to, by name; the source knows the names


class DataError(UserError):
    """The shards do not hold what the experiment reads."""


class TooMuchDamage(UserError):
    """More samples were skipped as damaged than `data.max_skipped` allows."""


def check_skipped(skipped: int, seen: int, config: DataConfig) -> None:
    """Raise TooMuchDamage if too many of `seen` samples were skipped.

    One is always allowed: otherwise a damaged sample in the first batches would end the run.
    """
    if skipped > max(1, config.max_skipped * seen):
        raise TooMuchDamage(
            f"{skipped} of {seen} samples were damaged and skipped, more than data.max_skipped="
            f"{config.max_skipped:g} allows; run `emo-shards verify "
            f"{folders_of(config.shards)[0]} --deep`, which lists them and says how to repair them"
        )


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch (training: one micro-batch of it), on the CPU.

    It has N places, each for one row of the dataset: N = B rows, or D dialogues x T turns. The
    model reads `inputs` only. The other fields say which places count; they stay on the CPU, except
    `target` and `valid`, which the loss needs.

    Attributes:
        row: int64 [N], the row of the dataset; -1 for padding.
        valid: bool [N], False where the place has no part in loss and metrics: padding, context,
            or a damaged sample.
        skipped: int64 [N], 1 for a sample that would be valid if it were not damaged.
        target: float32 [N, C], the distribution to learn; without meaning where not `valid`.
        inputs: by key, see `emo.modalities` and the source's `batch`.
        allowed: bool [N, C], the classes that the place's corpus can have; None where every corpus
            can have every class.
        counts: int64 [3], in training only: the number of valid places, the number of skipped
            ones, and `trace_of` the units.
        draws: the random numbers of augmentation, in training only: without them there is none.
    """

    row: Tensor
    valid: Tensor
    skipped: Tensor
    target: Tensor
    inputs: dict[str, Tensor]
    counts: Tensor | None = None
    draws: Draws | None = None
    allowed: Tensor | None = None


@dataclass(frozen=True)
class Supervision:
    """Labels and targets of every row of a dataset.

    `labels` is int [rows], -1 outside the label set; `targets` float32 [rows, C], the distribution
    to learn. `votes` changes the targets of training in every epoch; None leaves them as they are.
    `masks` are the classes that a row's corpus can have; None: all.
    """

    labels: np.ndarray
    targets: np.ndarray
    votes: VoteTable | None = None
    masks: ClassMasks | None = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        view: View,
        kind: Literal["hard", "soft"],
        *,
        primary: float | None = None,
        dropout: AnnotationDropout | None = None,
        seed: int = 0,
    ) -> Supervision:
        """The view's labels as targets (hard), or the annotators' votes (soft).

        A turn keeps its hard label if none of its votes lies inside the label set. `primary` and
        `dropout` are as in `DataConfig`; `seed` is the training's.

        Raises:
            UserError: `dropout` names a class that is not in the label set.
        """
        targets = np.zeros((len(dataset), len(view.label_set.classes)), np.float32)
        inside = view.labels >= 0
        targets[inside, view.labels[inside]] = 1
        table = None
        if kind == "soft":
            every = dataset.table["votes"].to_pylist()
            for row, votes in enumerate(every):
                target = vote_target(votes, view.label_set, primary) if inside[row] else None
                if target is not None:
                    targets[row] = target
                else:
                    every[row] = []  # nothing to drop
            if dropout is not None:
                table = VoteTable(every, view.label_set, primary, dropout, seed)
        masks = ClassMasks.of_dataset(dataset, view.label_set)
        return cls(view.labels, targets, table, masks)


class SampleSource(Protocol):
    """Units of an opened dataset, made into batches.

    Attributes:
        labels, targets, votes, masks: those of `Supervision`, for every row of the dataset.
        sizes: int [units], lengths; evaluation takes the longest units first.
        statistics: by which features are normalised; None if nothing is normalised.
        config: the section `data`.
    """

    labels: np.ndarray
    targets: np.ndarray
    votes: VoteTable | None
    masks: ClassMasks | None
    sizes: np.ndarray
    statistics: Normaliser | None
    config: DataConfig

    def units(self, rows: np.ndarray) -> np.ndarray:
        """The units that contain `rows` (int64), int64."""
        ...

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        """The rows of `units`, int64; -1 (no unit) has none."""
        ...

    def lengths(self, units: np.ndarray) -> Lengths:
        """The lengths to which a batch of `units` (any shape, -1: no unit) is padded.

        Always called with the whole global batch, even if a rank reads only a part of it.
        """
        ...

    def batch(self, units: np.ndarray, lengths: Lengths) -> Batch:
        """The batch of `units`, int64 [B] (-1: an empty place), padded to `lengths`; no `counts`.

        Raises:
            DamagedSample: a sample is not what was written, and `data.damage` is `error`.
        """
        ...

    def to_model(self, batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """`batch.inputs` as the model reads them: on `device`, floats in `dtype`."""
        ...
