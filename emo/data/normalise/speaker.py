"""Normalisation of each turn by the mean and deviation of all clean turns of its speaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from emo.data.normalise.base import Moments, Normaliser, scaled
from emo.data.normalise.turn import TurnStatistics
from shards.errors import UserError
from shards.store.schema import CLEAN

if TYPE_CHECKING:
    from shards.store.index import Dataset

NOBODY = ("", "unknown")  # what readers call a speaker that a corpus does not name


@dataclass(frozen=True)
class SpeakerStatistics(Normaliser):
    """By speaker: takes voice, microphone and distance away, and keeps what changes between turns.

    Labels have no part in it, but a test speaker's own turns do, all of them. `moments` is by the
    speaker's name. Once bound, `places` int64 [rows] is the number of each row's speaker, and
    `tables` float32 [speakers, F] their means and deviations.
    """

    kind: ClassVar[str] = "speaker"
    remark: ClassVar[str] = (
        "the model was trained on features normalised by speaker; a single recording is normalised "
        "by itself, which is less exact"
    )

    moments: Mapping[str, Moments]
    places: Tensor | None = field(default=None, repr=False, compare=False)
    tables: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def bins(self) -> int:  # type: ignore[override]
        return len(next(iter(self.moments.values())).mean)

    @classmethod
    def groups(cls, dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        """By speaker, in the order of names.

        Raises:
            UserError: turns whose speaker is not known.
        """
        clean = np.flatnonzero(dataset.column("variant") == CLEAN)
        names = dataset.column("speaker").astype(str)[clean]
        nameless = int(np.isin(names, NOBODY).sum())
        if nameless:
            raise UserError(
                f"data.normalise=speaker needs to know who speaks: {nameless} of {len(clean)} "
                f"turns in {dataset.folder} have no speaker; set data.normalise=turn, or name the "
                "speakers in the corpus' configuration and build again"
            )
        return {str(name): clean[names == name] for name in np.unique(names)}

    @classmethod
    def of(cls, measured: Mapping[str, Moments], bins: int) -> Self:
        return cls(dict(measured))

    def to_json(self) -> dict[str, Any]:
        speakers = {name: one.to_json() for name, one in self.moments.items()}
        return {"kind": self.kind, "speakers": speakers}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls({name: Moments.from_json(one) for name, one in raw["speakers"].items()})

    def bound(self, dataset: Dataset) -> Self:
        """Raises UserError for a speaker who was not measured."""
        numbers = {name: number for number, name in enumerate(self.moments)}
        names, of_row = np.unique(dataset.column("speaker").astype(str), return_inverse=True)
        if unknown := [str(name) for name in names if name not in numbers]:
            raise UserError(
                f"{dataset.folder} has speakers whose features were not measured in training "
                f"({', '.join(unknown[:5])}): data.normalise=speaker needs the shards trained on"
            )
        places = np.array([numbers[name] for name in names], np.int64)[of_row]
        means, stds = (
            torch.from_numpy(np.stack([getattr(one, name) for one in self.moments.values()]))
            for name in ("mean", "std")
        )
        return replace(self, places=torch.from_numpy(places), tables=(means, stds))

    def alone(self) -> TurnStatistics:
        return TurnStatistics(self.bins)

    def normalise(self, stored: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        assert rows is not None
        assert self.places is not None, "bind it to a dataset first"
        assert self.tables is not None
        # Looked up on the CPU, where the rows are: [B, F] travels. Padding (-1) takes the last row.
        of_row_B = self.places[rows]
        mean_BF, std_BF = (
            table[of_row_B].to(stored.device, non_blocking=True) for table in self.tables
        )
        return scaled(stored, mask, mean_BF[:, None], std_BF[:, None])
