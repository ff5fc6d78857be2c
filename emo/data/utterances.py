"""Rows of a dataset as batches of utterances: read, padded and, on the device, normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emo.data.augment.apply import augmented
from emo.data.config import DataConfig
from emo.data.normalise.base import Normaliser, longest, model_input
from emo.data.source import Batch, Lengths, Supervision
from emo.mixing import PARTNER, WEIGHT, mix
from emo.modalities import MODALITIES
from shards.extract.features import FEATURES
from shards.store.index import Dataset
from shards.store.read import DamagedSample, ShardReader
from shards.store.schema import CLEAN, DTYPES
from shards.views.view import View


@dataclass(frozen=True)
class _Input:
    """How one modality lies in a batch.

    `member` is the member of the shards that it is read from. `counts` int64 [rows] is the number
    of frames (samples, tokens) of each row. `fixed` is the length of every batch; None means the
    longest row in it. Values are [B, length, *width] of `dtype`, with `fill` after a row's end.
    """

    member: str
    counts: np.ndarray
    fixed: int | None
    dtype: np.dtype
    width: tuple[int, ...]
    fill: int


class Utterances:
    """A `SampleSource` whose units are the rows of an opened dataset.

    Args:
        members: by modality, the member of a sample that is read: an audio feature, "tokens".
        statistics: needed where audio is read, unless it is the waveform.
        pad_token: the token id that pads shorter texts.
    """

    def __init__(
        self,
        dataset: Dataset,
        members: Mapping[str, str],
        supervision: Supervision,
        *,
        statistics: Normaliser | None,
        pad_token: int,
        config: DataConfig,
    ) -> None:
        self.reader = ShardReader(dataset, list(members.values()))
        self.labels, self.targets = supervision.labels, supervision.targets
        self.votes, self.masks = supervision.votes, supervision.masks
        self.statistics = statistics.bound(dataset) if statistics else None
        self.config = config
        # Frames even if only text is read: evaluation is ordered by them, and with other batches
        # finished runs could not be reproduced to the last bit.
        self.sizes = np.minimum(dataset.frames(config.audio), longest(config.audio))
        self.tokens = dataset.column("tokens")
        width = (statistics.bins,) if statistics else ()
        self.inputs: dict[str, _Input] = {}
        if "text" in members:
            int64 = np.dtype(np.int64)
            self.inputs["text"] = _Input(members["text"], self.tokens, None, int64, (), pad_token)
        if "audio" in members:
            stored = DTYPES[members["audio"]]
            self.inputs["audio"] = _Input(
                members["audio"], self.sizes, config.frames, stored, width, 0
            )
        assert self.inputs.keys() == members.keys(), f"no way to read one of {list(members)}"

    def units(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        return units[units >= 0]

    def lengths(self, units: np.ndarray) -> Lengths:
        """Frames (of a waveform: samples) and tokens, by modality."""
        rows = self.rows_of(units)
        return {
            name: one.fixed or int(one.counts[rows].max(initial=1))
            for name, one in self.inputs.items()
        }

    def batch(self, units: np.ndarray, lengths: Lengths) -> Batch:
        """As `SampleSource.batch`. If a sample lacks a modality, its mask is False everywhere.

        The inputs, as read: `audio` [B, frames, F] (of a waveform [B, samples]) as it is stored,
        `audio_mask` bool [B, frames]; `tokens` int64 [B, tokens], `token_mask` bool [B, tokens].
        """
        valid, skipped = units >= 0, np.zeros(len(units), np.int64)
        # Not zeroed: what no sample has filled is overwritten by `fill` below.
        values = {
            name: np.empty((len(units), lengths[name], *one.width), one.dtype)
            for name, one in self.inputs.items()
        }
        counts = {name: np.zeros(len(units), np.int64) for name in self.inputs}
        for place in np.flatnonzero(valid).tolist():
            try:
                arrays = self.reader.read(int(units[place]))
            except DamagedSample:
                if self.config.damage == "error":
                    raise
                valid[place], skipped[place] = False, 1
                continue
            for name, one in self.inputs.items():
                if one.member in arrays:
                    x = arrays[one.member][: lengths[name]]
                    values[name][place, : len(x)] = x
                    counts[name][place] = len(x)
        inputs: dict[str, Tensor] = {}
        for name, one in self.inputs.items():
            for x, count in zip(values[name], counts[name].tolist(), strict=True):
                x[count:] = one.fill
            mask = np.arange(lengths[name]) < counts[name][:, None]
            inputs[MODALITIES[name].values] = torch.from_numpy(values[name])
            inputs[MODALITIES[name].mask] = torch.from_numpy(mask)
        return Batch(
            row=torch.from_numpy(units),
            valid=torch.from_numpy(valid),
            skipped=torch.from_numpy(skipped),
            target=torch.from_numpy(self.targets[units]),
            inputs=inputs,
            allowed=torch.from_numpy(self.masks.of(units)) if self.masks else None,
        )

    def to_model(self, batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """`batch.inputs` on `device`; audio is normalised there, then cast to `dtype`.

        Features travel as they are stored, in half the bytes: from workers and to the device.
        """
        # Asynchronous: the device copies from page-locked memory while the CPU goes on, and torch
        # keeps that memory until the copy is done. Kernels that read `moved` are queued after it.
        moved = {key: x.to(device, non_blocking=True) for key, x in batch.inputs.items()}
        if "audio" in self.inputs:
            key, mask = MODALITIES["audio"].keys
            if self.statistics is None:
                # An encoder normalises waveforms itself, and casts after that: a half type would
                # leave them 8 bits too early.
                dtype = torch.promote_types(dtype, torch.float32)
            x = model_input(moved[key], moved[mask], self.statistics, batch.row)
            if batch.draws is not None:
                x, moved[mask] = self._augmented(x, moved, batch)
            moved[key] = x.to(dtype)
        return moved

    def _augmented(
        self, x: Tensor, moved: dict[str, Tensor], batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """The audio `x` and its mask after what `data.augment` says; mixed last, at the input."""
        config, mask = self.config.augment, moved[MODALITIES["audio"].mask]
        assert batch.draws is not None
        x, mask = augmented(x, mask, config, batch.draws, batch.row.numpy())
        if config.mixup is not None and config.mixup.where == "input":
            weight, partner = moved.pop(WEIGHT), moved.pop(PARTNER)
            x, mask = mix(x, weight, partner), mask | (mask[partner] & (weight < 1)[:, None])
        return x, mask


def training_rows(dataset: Dataset, view: View, config: DataConfig, audio: bool) -> np.ndarray:
    """The view's training rows that this model learns from.

    A model that reads only text takes the clean rows: all variants of a turn have the same text.
    Low-level descriptors exist for clean rows only.
    """
    variants = dataset.column("variant")[view.train]
    varied = audio and not FEATURES[config.audio].clean_only
    wanted = (CLEAN, *config.variants) if varied else (CLEAN,)
    rows = view.train[np.isin(variants, wanted)]
    if config.left_out is not None:
        names = dataset.column("dialogue").astype(str)
        rows = rows[~np.isin(names[rows], names[config.left_out.rows(view)])]
    return rows
