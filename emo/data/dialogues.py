"""Batches of whole dialogues, for the same loop that trains on utterances.

A unit is a dialogue. A batch is D of them, padded to the longest of the *global* batch, T turns;
what belongs to a turn comes flattened, [D·T], as if the turns were utterances. Turns that have no
part in the view (outside the label set, without a majority) are context: not valid, so they add
nothing to loss and metrics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.config import ExperimentConfig
from emo.data.plan import Plan
from emo.data.samples import DataError, Samples, targets
from emo.models.context import ContextModel
from shards.store.index import Dataset
from shards.store.read import DamagedSample, ShardReader
from shards.views.protocols import PARTS
from shards.views.view import View


class DialogueSamples(Samples):
    """Dialogues of an opened dataset of vectors (`emo features`) as model inputs.

    Args:
        widths: of the vectors read, by modality.
        reads: "vector" or "scores", the member of each modality.
        dialogues: the clean rows of each dialogue, int64 [turns], in the order of turns.
        targets: float32 [rows, C], the distribution to learn.
    """

    def __init__(
        self,
        dataset: Dataset,
        view: View,
        config: ExperimentConfig,
        *,
        widths: dict[str, int],
        reads: str,
        dialogues: list[np.ndarray],
        targets: np.ndarray,
    ) -> None:
        self.members = {name: f"{name}_{reads}" for name in widths}
        self.reader = ShardReader(dataset, list(self.members.values()))
        self.widths, self.dialogues = widths, dialogues
        self.labels, self.targets, self.config = view.labels, targets, config.data
        self.statistics = None
        self.frames = np.array([len(rows) for rows in dialogues])  # what units are sorted by
        self.tokens = self.frames
        self.dialogue_of = np.full(len(dataset), -1, np.int64)
        for number, rows in enumerate(dialogues):
            self.dialogue_of[rows] = number
        # Every turn in the view counts: a dialogue is in one part alone.
        self.counted = np.zeros(len(dataset), bool)
        for part in PARTS:
            self.counted[view.rows(part)] = True
        self.speakers = np.unique(dataset.column("speaker").astype(str), return_inverse=True)[1]

    def units(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the dialogues in which `rows` are, int64, ascending."""
        return np.unique(self.dialogue_of[rows])

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        """The rows of these dialogues, one after the other; -1 has none."""
        real = [self.dialogues[unit] for unit in units.tolist() if unit >= 0]
        return np.concatenate([*real, np.empty(0, np.int64)])

    def lengths(self, units: np.ndarray) -> tuple[int, int]:
        """(turns, 0): what a batch of these dialogues (-1: none) is padded to."""
        return int(self.frames[units[units >= 0]].max(initial=1)), 0

    def batch(self, units: np.ndarray, turns: int, _: int = 0) -> dict[str, Tensor]:
        """Dialogues `units` int64 [D] (-1: an empty one), padded to T = `turns`.

        Returns, flattened: `row` int64 [D·T] (-1 in padding), `valid` bool, `skipped` int64,
        `target` float32 [D·T, C]. Besides, `turn_mask` bool [D, T], `speaker` int64 [D, T],
        and for each modality float32 [D, T, W], zero for turns without it.

        Raises:
            DamagedSample: a vector is not what was written, and the policy is `error`.
        """
        rows_DT = np.full((len(units), turns), -1, np.int64)
        for d, unit in enumerate(units.tolist()):
            if unit >= 0:
                rows_DT[d, : len(self.dialogues[unit])] = self.dialogues[unit]
        mask_DT = rows_DT >= 0
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
                # It stays as a turn that says nothing, without loss and metric.
                skipped_DT[place] = valid_DT[place]
                valid_DT[place] = False
                continue
            for name, member in self.members.items():
                if member in arrays:
                    vectors[name][place] = arrays[member]
        flat = rows_DT.ravel()
        found: dict[str, np.ndarray] = {
            "row": flat,
            "valid": valid_DT.ravel(),
            "skipped": skipped_DT.ravel(),
            "target": np.where(valid_DT.ravel()[:, None], self.targets[flat], 0).astype(np.float32),
            "turn_mask": mask_DT,
            "speaker": np.where(mask_DT, self.speakers[rows_DT], -1),
            **vectors,
        }
        return {name: torch.from_numpy(array) for name, array in found.items()}


def build_parts(
    dataset: Dataset, view: View, config: ExperimentConfig
) -> tuple[np.ndarray, DialogueSamples, ContextModel, Plan]:
    """What a context model is trained with: its units, samples, the model, and the plan.

    Raises:
        DataError: `dataset` holds no such vectors, or its branches were trained on other parts.
        ViewError: the view splits a dialogue.
    """
    chosen = config.model.context
    assert chosen is not None
    by_part = {part: view.dialogues(part) for part in PARTS}
    facts = vector_facts(dataset)
    widths = check_vectors(facts, dataset, view, config)
    samples = DialogueSamples(
        dataset,
        view,
        config,
        widths=widths,
        reads=chosen.reads,
        dialogues=[rows for part in PARTS for rows in by_part[part]],
        targets=targets(dataset, view, config.data.targets),
    )
    units = samples.units(view.train)
    torch.manual_seed(config.train.seed)  # the same first weights on every rank
    model = ContextModel(config.model, len(view.label_set.classes), widths)
    plan = Plan(
        config.data.plan,
        units=len(units),
        global_batch=config.train.global_batch,
        seed=config.train.seed,
        dataset_hash=dataset.manifest.dataset_hash,
        shards=dataset.column("shard")[[samples.dialogues[unit][0] for unit in units]],
        lengths=samples.frames[units],
        groups=[samples.dialogues[unit] for unit in units],
    )
    return units, samples, model, plan


def vector_facts(dataset: Dataset) -> dict[str, Any]:
    """What `emo features` recorded about the vectors in `dataset`; empty for any other dataset."""
    return dict(dataset.manifest.settings.get("vectors", {}))


def source_hash(dataset: Dataset) -> str:
    """The hash of the dataset whose turns these are: vectors stand for the shards they are of."""
    return str(vector_facts(dataset).get("dataset", {}).get("hash", dataset.manifest.dataset_hash))


def check_vectors(
    facts: dict[str, Any], dataset: Dataset, view: View, config: ExperimentConfig
) -> dict[str, int]:
    """The width of each modality's vectors that the model reads.

    Raises:
        DataError: they are not there, or made by branches that were trained on other parts.
    """
    chosen = config.model.context
    assert chosen is not None
    if not facts:
        raise DataError(
            f"{dataset.folder} holds no vectors of turns, which a context model reads: make them "
            "with emo features RUN FOLDER, and set data.shards to that folder"
        )
    members = {name: f"{name}_{chosen.reads}" for name in chosen.modalities}
    missing = [member for member in members.values() if member not in facts["widths"]]
    if missing:
        raise DataError(
            f"{dataset.folder} holds {', '.join(facts['widths'])}, but not {', '.join(missing)}: "
            "choose other model.context.modalities or reads, or make features of more runs"
        )
    if facts["view"] != view.digest:
        raise DataError(
            f"the branches behind {dataset.folder} were trained on other parts "
            f"({facts['protocol']}) than this run ({view.name}): they have seen turns that are "
            "test turns here. Set data.view to theirs"
        )
    return {name: int(facts["widths"][member]) for name, member in members.items()}
