"""From the index and a plan to batches on the CPU, exactly once each.

An item of `TrainingSteps` or `EvaluationSteps` is everything one rank needs for one step, so a
loader (`emo.data.loader`) only spreads steps over workers; it neither batches nor samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emo.data.config import DataConfig
from emo.data.lines import MOST_IDS, Lines
from emo.data.normalise import Statistics, longest, model_input
from emo.data.plan import DataState, Plan, check_slices, evaluation_plan, rank_slices
from shards.errors import UserError
from shards.store import index
from shards.store.read import DamagedSample, ShardReader
from shards.store.schema import DTYPES
from shards.views.view import View

TOGETHER = 32  # steps of kept lines: some hundred kilobytes


class DataError(UserError):
    """The shards cannot give what the experiment reads."""


class TooMuchDamage(UserError):
    """More samples were skipped as damaged than `data.max_skipped` allows."""


def check_skipped(skipped: int, seen: int, config: DataConfig) -> None:
    """Raise TooMuchDamage where too many of `seen` samples were; a first one is always forgiven."""
    if skipped > max(1, config.max_skipped * seen):
        raise TooMuchDamage(
            f"{skipped} of {seen} samples were damaged and skipped, more than data.max_skipped="
            f"{config.max_skipped:g} allows; run `emo-shards verify {config.shards} --deep`, which "
            "names them and says how to repair them"
        )


class Samples:
    """Rows of an opened dataset as model inputs.

    Args:
        inputs: the members read: an audio feature, "tokens", or both.
        labels: int [rows of the dataset], -1 outside the label set.
        targets: float32 [rows, C], the distribution to learn.
        statistics: needed where an audio feature is read that is no waveform.
        pad_token: the id that fills shorter lines.
    """

    _lines: Lines | None = None

    def __init__(
        self,
        dataset: index.Dataset,
        inputs: Sequence[str],
        *,
        labels: np.ndarray,
        targets: np.ndarray,
        statistics: Statistics | None,
        pad_token: int,
        config: DataConfig,
    ) -> None:
        self.reader = ShardReader(dataset, inputs)
        self.audio = next((name for name in inputs if name != "tokens"), None)
        self.text = "tokens" in inputs
        self.frames = np.minimum(dataset.frames(config.audio), longest(config.audio))
        self.tokens = dataset.column("tokens")
        self.labels, self.targets = labels, targets
        self.statistics, self.config = statistics, config
        self.pad_token = pad_token
        kept = self.text and not self.audio
        kept = kept and len(self.tokens) * int(self.tokens.max(initial=1)) <= MOST_IDS
        self._lines = Lines(self.tokens, pad_token) if kept else None

    @property
    def at_once(self) -> int:
        """Steps whose batches are made together."""
        return TOGETHER if self._lines is not None else 1

    def units(self, rows: np.ndarray) -> np.ndarray:
        """What plans count, for `rows`: here rows, dialogues in `emo.data.dialogues`."""
        return rows

    def rows_of(self, units: np.ndarray) -> np.ndarray:
        """The rows of `units`, of which -1 is none."""
        return units[units >= 0]

    def lengths(self, rows: np.ndarray) -> tuple[int, int]:
        """(frames, tokens) that a batch of `rows` (-1: none) is padded to."""
        real = rows[rows >= 0]
        frames = self.config.frames or (int(self.frames[real].max(initial=1)) if self.audio else 1)
        return frames, int(self.tokens[real].max(initial=1)) if self.text else 1

    def batch(self, rows: np.ndarray, frames: int, tokens: int) -> dict[str, Tensor]:
        """`rows` int64 [B] (-1: not valid, its inputs are zeros) padded to the given lengths.

        Returns `row` int64 [B], `valid` bool [B], `skipped` int64 [B], `target` float32 [B, C]
        (where `valid`) and, as read, `audio` [B, frames, F] (of a waveform [B, frames]) as it is
        stored, for `to_model`, with `audio_mask` bool [B, frames], `tokens` int64 [B, tokens] with
        `token_mask` bool [B, tokens].

        Raises:
            DamagedSample: a sample is not what was written, and the policy is `error`.
        """
        size = len(rows)
        batch = {
            "row": rows,
            "valid": rows >= 0,
            "skipped": np.zeros(size, np.int64),
            "target": self.targets[rows],
        }
        if self.audio:
            bins = (len(self.statistics.mean),) if self.statistics else ()
            batch["audio"] = np.empty((size, frames, *bins), DTYPES[self.audio])
        sizes = np.zeros((2, size, 1), np.int64)  # frames, tokens
        unread = rows >= 0
        if self._lines:
            batch["tokens"], sizes[1, :, 0] = self._lines.take(rows, tokens)
            unread &= sizes[1, :, 0] == 0
        elif self.text:
            batch["tokens"] = np.full((size, tokens), self.pad_token, np.int64)
        for place in np.flatnonzero(unread).tolist():
            row = int(rows[place])
            try:
                arrays = self.reader.read(row)
            except DamagedSample:
                if self.config.damage == "error":
                    raise
                batch["valid"][place], batch["skipped"][place] = False, 1
                continue
            if self.audio and self.audio in arrays:
                x = arrays[self.audio][:frames]
                batch["audio"][place, : len(x)] = x
                sizes[0, place] = len(x)
            if self.text and "tokens" in arrays:
                ids = arrays["tokens"][:tokens]
                batch["tokens"][place, : len(ids)] = ids
                sizes[1, place] = len(ids)
                if self._lines:
                    self._lines.keep(row, arrays["tokens"])
        if self.audio:
            for x, count in zip(batch["audio"], sizes[0, :, 0].tolist(), strict=True):
                x[count:] = 0
            batch["audio_mask"] = np.arange(frames) < sizes[0]
        if self.text:
            batch["token_mask"] = np.arange(tokens) < sizes[1]
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def batches(
        self, micros: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """The `batch` of each of `micros`, padded to its own of `sizes` (frames, tokens).

        Those of kept lines are made as one, which takes hardly longer than one, and cut.
        """
        if self._lines is None:
            return [self.batch(rows, *size) for rows, size in zip(micros, sizes, strict=True)]
        whole = self.batch(np.concatenate(micros), 1, max(tokens for _, tokens in sizes))
        result, end = [], 0
        for rows, (_, tokens) in zip(micros, sizes, strict=True):
            begin, end = end, end + len(rows)
            part = {name: tensor[begin:end] for name, tensor in whole.items()}
            for name in ("tokens", "token_mask"):
                part[name] = part[name][:, :tokens]
            result.append(part)
        return result

    def to_model(
        self, batch: dict[str, Tensor], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """`batch` on `device`, its features normalised there and then cast to `dtype`.

        Features travel as they are stored, in half the bytes: from workers and to the device.
        """
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        if "audio" in moved:
            x = moved["audio"]
            if "audio_mask" in moved:  # no vectors of dialogues
                x = model_input(x, moved["audio_mask"], self.statistics)
            moved["audio"] = x.to(dtype)
        return moved


class TrainingSteps(Dataset):
    """Item `n`: this rank's micro-batches of the n-th optimizer step after `start`.

    Each also has `counts` int64 [3]: its rows that are valid and skipped, and the `trace_of` all.
    """

    def __init__(
        self,
        samples: Samples,
        rows: np.ndarray,
        plan: Plan,
        start: DataState,
        *,
        epochs: int,
        world: int,
        rank: int,
        accumulation: int,
    ) -> None:
        self.samples, self.rows, self.plan, self.start = samples, rows, plan, start
        self.world, self.rank, self.accumulation = world, rank, accumulation
        self._begun = -(-(plan.units - start.consumed) // plan.global_batch)  # its epoch's rest
        whole = epochs - start.epoch - 1
        self._length = self._begun + whole * plan.steps_per_epoch if whole >= 0 else 0
        self._epochs: dict[int, np.ndarray] = {}
        self._made: dict[int, list[list[dict[str, Tensor]]]] = {}

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_epochs": {}, "_made": {}}

    def global_rows(self, step: int) -> np.ndarray:
        """Rows of the whole global batch of step `step`, int64 [G], -1 = none."""
        further, inside = divmod(step - self._begun, self.plan.steps_per_epoch)
        epoch, consumed = self.start.epoch + 1 + further, 0
        if step < self._begun:
            epoch, consumed, inside = self.start.epoch, self.start.consumed, step
        if epoch not in self._epochs:
            self._epochs = {epoch: self.plan.epoch(epoch, consumed)}
        units = self._epochs[epoch][inside]
        return np.where(units >= 0, self.rows[units], -1)

    def largest(self) -> list[dict[str, Tensor]]:
        """No item takes more memory than this one, which holds nothing."""
        empty = np.full(check_slices(self.plan.global_batch, self.world, self.accumulation), -1)
        return [self.samples.batch(empty, *self.samples.lengths(self.rows))] * self.accumulation

    def __getitem__(self, step: int) -> list[dict[str, Tensor]]:
        together = self.samples.at_once
        if together == 1:  # large ones are not kept a step longer
            return self._make(range(step, step + 1))[0]
        first = step - step % together
        if first not in self._made:
            self._made = {first: self._make(range(first, min(first + together, len(self))))}
        return self._made[first][step - first]

    def _make(self, steps: range) -> list[list[dict[str, Tensor]]]:
        micros: list[np.ndarray] = []
        sizes: list[tuple[int, int]] = []
        for step in steps:
            rows = self.global_rows(step)
            micros.extend(rank_slices(rows, self.world, self.rank, self.accumulation))
            sizes += [self.samples.lengths(rows)] * self.accumulation
        batches = self.samples.batches(micros, sizes)
        for batch, units in zip(batches, micros, strict=True):
            valid, skipped = (int(batch[name].count_nonzero()) for name in ("valid", "skipped"))
            batch["counts"] = torch.tensor([valid, skipped, trace_of(units)])
        each = self.accumulation
        return [batches[at : at + each] for at in range(0, len(batches), each)]


class EvaluationSteps(Dataset):
    """Item `step`: this rank's batch; every row once over all ranks, the same number of steps."""

    def __init__(
        self, samples: Samples, rows: np.ndarray, *, batch: int, world: int, rank: int
    ) -> None:
        batch = -(-batch // world) * world
        order = evaluation_plan(len(rows), batch, samples.frames[rows])
        self.samples, self.world, self.rank = samples, world, rank
        self.batches = np.where(order >= 0, rows[order], -1)

    def __len__(self) -> int:
        return len(self.batches)

    def largest(self) -> dict[str, Tensor]:
        """No item takes more memory than this one, which holds nothing."""
        empty = np.full(self.batches.shape[1] // self.world, -1)
        return self.samples.batch(empty, *self.samples.lengths(self.batches))

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rows = self.batches[step]
        frames, tokens = self.samples.lengths(rows)
        [mine] = rank_slices(rows, self.world, self.rank)
        return self.samples.batch(mine, frames, tokens)


def trace_of(units: np.ndarray) -> int:
    """A sum over `units` (-1: none) that tells whether each of a set was used exactly once.

    Every unit adds a 32-bit hash of its number (the finalizer of SplitMix64, Steele et al. 2014),
    so traces of parts of an epoch, from any rank, may be added in any order, exactly even as floats
    up to two million units at a time.
    """
    x = units[units >= 0].astype(np.uint64)
    x += np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return int((x >> np.uint64(32)).sum())


def targets(dataset: index.Dataset, view: View, kind: Literal["hard", "soft"]) -> np.ndarray:
    """The distribution to learn, float32 [rows, C]: the hard label, or the annotators' votes.

    A turn none of whose votes lies inside the label set keeps its hard label.
    """
    classes = len(view.label_set.classes)
    result = np.zeros((len(dataset), classes), np.float32)
    inside = view.labels >= 0
    result[inside, view.labels[inside]] = 1
    if kind == "soft":
        for row, votes in enumerate(dataset.table["votes"].to_pylist()):
            distribution, dropped = view.label_set.distribution(votes)
            if inside[row] and dropped < 1:
                result[row] = distribution
    return result


def training_rows(
    dataset: index.Dataset, view: View, config: DataConfig, audio: bool
) -> np.ndarray:
    """The view's training rows that this model learns from.

    A model that reads only text takes the clean rows: five copies of a line are one line. Low-level
    descriptors are made of clean rows alone.
    """
    variants = dataset.column("variant")[view.train]
    wanted = ("clean", *config.variants) if audio and config.audio != "lld" else ("clean",)
    rows = view.train[np.isin(variants, wanted)]
    if config.left_out is not None:
        names = dataset.column("dialogue").astype(str)
        rows = rows[~np.isin(names[rows], names[config.left_out.rows(view)])]
    return rows
