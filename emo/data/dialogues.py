"""Dialogues of a dataset of vectors as batches, for the same loop that trains on utterances.

A unit is a dialogue. A batch has D of them, padded to T turns, the longest of the *global* batch.
Facts of a turn are flattened to [D·T], as if the turns were utterances. Turns that are in no part
of the view (outside the label set, or without a majority) are context: they are not valid, so they
count in no loss and no metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.data.config import DataConfig
from emo.data.corpora.masks import ClassMasks
from emo.data.normalise.base import Normaliser
from emo.data.source import Batch, DataError, Lengths, Supervision
from shards.store.index import Dataset
from shards.store.read import DamagedSample, ShardReader
from shards.views.protocols.base import PARTS
from shards.views.view import View

TURNS = "turns"  # the one length of a batch


class Dialogues:
    """A `SampleSource` whose units are the dialogues of an opened dataset of vectors.

    Args:
        members: by modality, the member that is read ("text_vector", "audio_scores", ...).
        widths: of the members, by modality.

    Raises:
        ViewError: the view splits a dialogue.
    """

    statistics: Normaliser | None = None  # vectors are read as they are
    masks: ClassMasks | None = None  # a dataset of vectors is one corpus

    def __init__(
        self,
        dataset: Dataset,
        view: View,
        members: Mapping[str, str],
        widths: Mapping[str, int],
        supervision: Supervision,
        config: DataConfig,
    ) -> None:
        self.reader = ShardReader(dataset, list(members.values()))
        self.members, self.widths, self.config = dict(members), dict(widths), config
        self.labels, self.targets = supervision.labels, supervision.targets
        self.votes = supervision.votes
        # The clean rows of each dialogue, int64 [turns], in the order of turns.
        self.dialogues = [rows for part in PARTS for rows in view.dialogues(part)]
        self.sizes = np.array([len(rows) for rows in self.dialogues])
        self.dialogue_of = np.full(len(dataset), -1, np.int64)
        for number, rows in enumerate(self.dialogues):
            self.dialogue_of[rows] = number
        # Turns of all parts: a dialogue is in one part only, so units of one part bring no others.
        self.counted = np.zeros(len(dataset), bool)
        for part in PARTS:
            self.counted[view.rows(part)] = True
        self.speakers = np.unique(dataset.column("speaker").astype(str), return_inverse=True)[1]

    def units(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the dialogues that contain `rows`, int64, ascending."""
        return np.unique(self.dialogue_of[rows])

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        """The rows of these dialogues, one after the other."""
        real = [self.dialogues[unit] for unit in units.tolist() if unit >= 0]
        return np.concatenate([*real, np.empty(0, np.int64)])

    def lengths(self, units: np.ndarray) -> Lengths:
        return {TURNS: int(self.sizes[units[units >= 0]].max(initial=1))}

    def batch(self, units: np.ndarray, lengths: Lengths) -> Batch:
        """As `SampleSource.batch`, N = D·T places for D dialogues of up to T turns.

        The inputs: `turn_mask` bool [D, T], `speaker` int64 [D, T] (-1 in padding), and for each
        modality, under its name, float32 [D, T, W], zero for turns without it.
        """
        rows_DT = np.full((len(units), lengths[TURNS]), -1, np.int64)
        for d, unit in enumerate(units.tolist()):
            if unit >= 0:
                rows_DT[d, : len(self.dialogues[unit])] = self.dialogues[unit]
        mask_DT = rows_DT >= 0
        # Padding (-1) looks up the last row here and below; the mask takes that away again.
        valid_DT = mask_DT & self.counted[rows_DT]
        skipped_DT = np.zeros_like(rows_DT)
        vectors = {
            name: np.zeros((*rows_DT.shape, width), np.float32)
            for name, width in self.widths.items()
        }
        for place in map(tuple, np.argwhere(mask_DT).tolist()):
            try:
                arrays = self.reader.read(int(rows_DT[place]))
            except DamagedSample:
                if self.config.damage == "error":
                    raise
                # It stays in the dialogue as a turn with zero vectors. A context turn is not
                # counted as skipped: evaluation expects valid + skipped to be all rows of a part.
                skipped_DT[place] = valid_DT[place]
                valid_DT[place] = False
                continue
            for name, member in self.members.items():
                if member in arrays:
                    vectors[name][place] = arrays[member]
        row, valid = rows_DT.ravel(), valid_DT.ravel()
        inputs: dict[str, np.ndarray] = {
            "turn_mask": mask_DT,
            "speaker": np.where(mask_DT, self.speakers[rows_DT], -1),
            **vectors,
        }
        target = np.where(valid[:, None], self.targets[row], 0).astype(np.float32)
        return Batch(
            row=torch.from_numpy(row),
            valid=torch.from_numpy(valid),
            skipped=torch.from_numpy(skipped_DT.ravel()),
            target=torch.from_numpy(target),
            inputs={key: torch.from_numpy(array) for key, array in inputs.items()},
        )

    def to_model(self, batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        moved = {key: x.to(device, non_blocking=True) for key, x in batch.inputs.items()}
        return {key: x.to(dtype) if x.is_floating_point() else x for key, x in moved.items()}


def vector_facts(dataset: Dataset) -> dict[str, Any]:
    """What `emo features` recorded about the vectors in `dataset`; empty for any other dataset."""
    return dict(dataset.manifest.settings.get("vectors", {}))


def source_hash(dataset: Dataset) -> str:
    """The hash of the dataset that the turns come from; vectors count as the shards behind them."""
    return str(vector_facts(dataset).get("dataset", {}).get("hash", dataset.manifest.dataset_hash))


def check_vectors(dataset: Dataset, view: View, members: Mapping[str, str]) -> dict[str, int]:
    """The width of each modality's vectors, `members` by modality.

    Raises:
        DataError: they are missing, or come from branches that were trained on other parts.
    """
    facts = vector_facts(dataset)
    if not facts:
        raise DataError(
            f"{dataset.folder} holds no vectors of turns, which a context model reads: make them "
            "with emo features RUN FOLDER, and set data.shards to that folder"
        )
    missing = [member for member in members.values() if member not in facts["widths"]]
    if missing:
        raise DataError(
            f"{dataset.folder} holds {', '.join(facts['widths'])}, but not {', '.join(missing)}: "
            "choose other model.context.modalities or reads, or make features of more runs"
        )
    # Branches trained on other parts have seen turns that are test turns here: their vectors would
    # give the answers away, and nothing else would show it.
    if facts["view"] != view.digest:
        raise DataError(
            f"the branches behind {dataset.folder} were trained on other parts "
            f"({facts['protocol']}) than this run ({view.name}): they have seen turns that are "
            "test turns here. Set data.view to theirs"
        )
    return {name: int(facts["widths"][member]) for name, member in members.items()}
