"""Real shards through plans and workers: every sample once, right, in one global order."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emo.config import ExperimentConfig
from emo.data.loader import Loader
from emo.data.normalise.base import Moments
from emo.data.normalise.train import TrainStatistics
from emo.data.plan import Plan, Share, UnitFacts
from emo.data.source import Batch, Supervision
from emo.data.steps import EvaluationSteps, TrainingSteps, trace_of
from emo.data.utterances import Utterances, training_rows
from emo.runs.experiment import view_of
from shards.configfile import parse
from shards.store.index import open_dataset
from shards.store.read import DamagedSample, ShardReader

BATCH, ALONE = 24, Share()
MOMENTS = Moments(np.linspace(-40, -10, 16, dtype="f4"), np.linspace(3, 9, 16, dtype="f4"), 1)
STATISTICS = TrainStatistics(MOMENTS)


class Lesson:
    """The tiny dataset as a fusion model's training reads it."""

    def __init__(self, config: ExperimentConfig) -> None:
        dataset = open_dataset(config.data.shards)
        self.view = view_of(dataset, config)
        self.dataset, self.config = dataset, config.data
        self.rows = training_rows(dataset, self.view, config.data, audio=True)
        self.samples = Utterances(
            dataset,
            config.inputs,
            Supervision.of(dataset, self.view, "hard"),
            statistics=STATISTICS,
            pad_token=0,
            config=config.data,
        )
        self.plan = Plan(
            config.data.plan,
            units=len(self.rows),
            global_batch=BATCH,
            seed=1,
            facts=UnitFacts(
                shards=dataset.column("shard")[self.rows],
                lengths=self.samples.sizes[self.rows],
                labels=self.view.labels[self.rows],
            ),
        )

    def steps(self, state: Any = None, share: Share = ALONE, epochs: int = 1) -> TrainingSteps:
        start = self.plan.start() if state is None else state
        return TrainingSteps(self.samples, self.rows, self.plan, start, epochs=epochs, share=share)

    def read(
        self, state: Any = None, world: int = 1, workers: int = 0, stop: int | None = None
    ) -> list[list[Batch]]:
        """The micro-batches of every rank, by step; the loader of a rank is closed at `stop`."""
        ranks = []
        for rank in range(world):
            steps = self.steps(state, Share(world, rank))
            loader = Loader(steps, range(len(steps)), workers=workers)
            ranks.append([batch for [batch] in islice(loader, stop)])
        return list(map(list, zip(*ranks, strict=True)))


@pytest.fixture(scope="module")
def lesson(tiny: Path, make_settings: Any) -> Lesson:
    return Lesson(lesson_config(tiny, make_settings))


def lesson_config(shards: Path, make_settings: Any, **changes: Any) -> ExperimentConfig:
    return parse(ExperimentConfig, make_settings(shards, shards / "run", **changes), "the test")


def rows_of(step: list[Batch]) -> list[int]:
    """The rows of one step in the order of the global batch: neighbours go to different ranks."""
    return torch.stack([batch.row for batch in step], 1).flatten().tolist()


@pytest.fixture(scope="module")
def whole(lesson: Lesson) -> list[Batch]:
    """One epoch in one process."""
    return [batch for [batch] in lesson.read()]


def test_batches_hold_what_the_shards_hold(lesson: Lesson, whole: Any) -> None:
    reader = ShardReader(lesson.dataset, ("logmel", "tokens"))
    for batch in whole:
        made = lesson.samples.to_model(batch, torch.device("cpu"), torch.float64)
        assert batch.inputs["audio"].dtype == torch.float16
        assert made["audio"].dtype == torch.float64
        for place, row in enumerate(batch.row.tolist()):
            assert batch.valid[place] == (row >= 0)
            frames = int(batch.inputs["audio_mask"][place].sum())
            count = int(batch.inputs["token_mask"][place].sum())
            assert not made["audio"][place, frames:].any()
            assert not batch.inputs["tokens"][place, count:].any()
            if row < 0:
                assert (frames, count) == (0, 0)
                continue
            stored = reader.read(row)
            x_TF = (stored["logmel"].astype("f4") - MOMENTS.mean) / MOMENTS.std
            assert made["audio"][place, :frames].numpy().astype("f4").tobytes() == x_TF.tobytes()
            assert batch.inputs["tokens"][place, :count].tolist() == stored["tokens"].tolist()
            assert int(batch.target[place].argmax()) == lesson.view.labels[row]


def test_lines_of_text_are_padded_to_the_longest_of_their_batch(lesson: Lesson) -> None:
    """For a model of text alone, whose pad token is not 0; a sample may lack the other modality."""
    count = len(lesson.dataset)
    supervision = Supervision(np.zeros(count, np.int64), np.ones((count, 1), np.float32))
    source = Utterances(
        lesson.dataset, {"text": "tokens"}, supervision, statistics=None, pad_token=7,
        config=lesson.config,
    )  # fmt: skip
    reader = ShardReader(lesson.dataset, ["tokens"])
    rows = np.array([5, -1, 0, 31, 8])
    lines = [reader.read(row)["tokens"].tolist() if row >= 0 else [] for row in rows.tolist()]
    longest = max(map(len, lines))
    assert len({len(line) for line in lines}) > 2
    assert source.lengths(rows) == {"text": longest}
    batch = source.batch(rows, source.lengths(rows))
    assert batch.inputs.keys() == {"tokens", "token_mask"}
    assert batch.inputs["tokens"].tolist() == [line + [7] * (longest - len(line)) for line in lines]
    assert batch.inputs["token_mask"].sum(1).tolist() == [len(line) for line in lines]
    assert batch.inputs["tokens"].dtype == torch.int64
    assert batch.valid.tolist() == [True, False, True, True, True]
    shorter = source.batch(rows, {"text": 3}).inputs["tokens"]
    assert shorter.tolist() == [(line + [7] * 3)[:3] for line in lines]


def test_only_what_the_model_reads_is_moved(lesson: Lesson, whole: Any) -> None:
    moved = lesson.samples.to_model(whole[0], torch.device("meta"), torch.bfloat16)
    assert moved.keys() == {"audio", "audio_mask", "tokens", "token_mask"}
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert moved["audio"].dtype == torch.bfloat16
    assert moved["tokens"].dtype == torch.int64
    assert whole[0].inputs["audio"].device.type == "cpu"


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_exactly_once_by_any_number_of_ranks_and_workers(
    lesson: Lesson, whole: Any, world: int, workers: int
) -> None:
    ranks_read = lesson.read(world=world, workers=workers)
    assert len(ranks_read) == len(whole) == lesson.plan.steps_per_epoch
    for step, alone in zip(ranks_read, whole, strict=True):
        assert rows_of(step) == alone.row.tolist()
        for name, tensor in tensors(alone).items():  # and every sample is the same, bit for bit
            parts = [tensors(batch)[name] for batch in step]
            if name == "counts":
                assert torch.equal(sum(parts), tensor)
                continue
            assert torch.equal(torch.stack(parts, 1).flatten(0, 1), tensor), name
    seen = [row for step in ranks_read for row in rows_of(step) if row >= 0]
    assert sorted(seen) == lesson.rows.tolist()


@pytest.mark.parametrize("order", ["shuffle", "windowed", "bucketed", "balanced"])
def test_a_resumed_epoch_reads_the_rest_in_the_same_order(
    tiny: Path, make_settings: Any, order: str
) -> None:
    random = np.random.default_rng(len(order))
    lesson = Lesson(lesson_config(tiny, make_settings, data__plan={"order": order}))
    epoch = [rows_of(step) for step in lesson.read()]
    for world, other in ((2, 2), (2, 3), (1, 4)):
        stop = int(random.integers(1, len(epoch)))
        state = lesson.plan.start()
        first = lesson.read(state, world, workers=1, stop=stop)  # workers have read further
        for _ in first:
            state = state.advance(lesson.plan.units)
        rest = lesson.read(lesson.plan.resume(state), other, workers=2)
        assert [rows_of(step) for step in first + rest] == epoch


def test_later_epochs_are_new_orders_of_the_same_rows(lesson: Lesson) -> None:
    steps = lesson.steps(epochs=3)
    assert len(steps) == 3 * lesson.plan.steps_per_epoch
    orders = np.array([steps.global_units(step) for step in range(len(steps))]).reshape(3, -1)
    for order in orders:
        assert sorted(order[order >= 0]) == lesson.rows.tolist()
    assert not np.array_equal(orders[0], orders[1])


def test_the_trace_of_an_epoch_adds_up_in_any_order_and_shows_every_exchange() -> None:
    units = np.random.default_rng(1).permutation(1000)
    whole = trace_of(units)
    assert whole == sum(trace_of(np.append(part, -1)) for part in np.array_split(units, 7))
    assert trace_of(units[1:]) != whole
    assert trace_of(np.append(units, units[:1])) != whole
    swapped = units.copy()
    swapped[np.flatnonzero((units == 2) | (units == 4))] = 3  # the plain sum stays
    assert swapped.sum() == units.sum()
    assert trace_of(swapped) != whole
    # These may never change: a checkpoint inside an epoch holds the sum so far.
    assert (trace_of(np.array([0])), whole) == (3793791033, 2140020595755)
    assert float(1 << 53) > 2_000_000 * (1 << 32)  # exact as floats, as `trace_of` says


def test_training_rows_are_the_variants_that_the_model_can_learn_from(
    tiny: Path, make_settings: Any
) -> None:
    def variants(audio: bool, **changes: Any) -> set[str]:
        config = lesson_config(tiny, make_settings, **changes)
        dataset = open_dataset(tiny)
        view = view_of(dataset, config)
        rows = training_rows(dataset, view, config.data, audio=audio)
        clean = dataset.column("variant")[rows] == "clean"
        assert clean.sum() == (dataset.column("variant")[view.train] == "clean").sum()
        return set(dataset.column("variant")[rows])

    assert variants(audio=True) == {"clean", "noise"}
    assert variants(audio=True, data__variants=["pitch"]) == {"clean"}
    assert variants(audio=True, data__audio="lld") == {"clean"}
    assert variants(audio=False) == {"clean"}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_row_once_in_equally_many_steps(lesson: Lesson, world: int) -> None:
    for rows in (lesson.view.val, lesson.view.test):
        seen, lengths = [], set()
        for rank in range(world):
            steps = EvaluationSteps(lesson.samples, rows, batch=7, share=Share(world, rank))
            lengths.add(len(steps))
            for batch in Loader(steps, range(len(steps)), workers=1):
                seen += batch.row[batch.valid].tolist()
        assert len(lengths) == 1
        assert sorted(seen) == rows.tolist()


@pytest.mark.parametrize("frames", [None, 40])
def test_no_batch_is_larger_than_the_largest(
    tiny: Path, make_settings: Any, frames: int | None
) -> None:
    lesson = Lesson(lesson_config(tiny, make_settings, data__frames=frames))
    for steps in (
        lesson.steps(share=Share(3, 0, 2)),
        EvaluationSteps(lesson.samples, lesson.view.train, batch=9, share=Share(2, 1)),
    ):
        for number in range(len(steps)):
            batches = zip(listed(steps[number]), listed(steps.largest_item()), strict=True)
            for batch, largest in batches:
                for name, tensor in tensors(largest).items():
                    assert tensors(batch)[name].dtype == tensor.dtype
                    assert tensors(batch)[name].nbytes <= tensor.nbytes


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """All that a batch holds, by name."""
    beside = {name: getattr(batch, name) for name in ("row", "valid", "skipped", "target")}
    counts = {} if batch.counts is None else {"counts": batch.counts}
    return beside | counts | batch.inputs


def listed(batches: Any) -> list[Batch]:
    return batches if isinstance(batches, list) else [batches]


def damage(folder: Path, row: int, member: str = "logmel") -> str:
    """Flip a bit of a member of `row`; its key."""
    dataset = open_dataset(folder)
    path = folder / f"shard-{dataset.column('shard')[row]:05d}.tar"
    data = bytearray(path.read_bytes())
    data[int(dataset.column(f"{member}.offset")[row]) + 130] ^= 4
    path.write_bytes(data)
    return str(dataset.column("key")[row])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_is_a_masked_row_or_an_error(
    tiny: Path, copy_of: Any, make_settings: Any, workers: int
) -> None:
    folder = copy_of(tiny)
    row = int(Lesson(lesson_config(folder, make_settings)).rows[17])
    key = damage(folder, row)
    with pytest.raises(DamagedSample, match=f"{key}, member logmel.*repair"):
        Lesson(lesson_config(folder, make_settings)).read(workers=workers)
    lenient = Lesson(lesson_config(folder, make_settings, data__damage="skip"))
    sound = Lesson(lesson_config(tiny, make_settings))
    hit = 0
    for step, other in zip(
        lenient.read(world=2, workers=workers), sound.read(world=2), strict=True
    ):
        for batch, right in zip(step, other, strict=True):
            bad = batch.row == row
            hit += int(bad.sum())
            assert torch.equal(batch.skipped.bool(), bad)
            assert torch.equal(batch.valid, right.valid & ~bad)
            assert not batch.inputs["audio"][bad].any()
            assert not batch.inputs["audio_mask"][bad].any()
            missed = int(bad.sum())
            assert (batch.counts - right.counts).tolist() == [-missed, missed, 0]
            for name, tensor in tensors(right).items():
                assert tensors(batch)[name].shape == tensor.shape
                if name != "counts":
                    assert torch.equal(tensors(batch)[name][~bad], tensor[~bad])
    assert hit == 1


def test_training_counts_what_it_skips_over_all_ranks_and_bounds_it(
    tiny: Path, copy_of: Any, make_settings: Any, together: Any, tmp_path: Path
) -> None:
    folder = copy_of(tiny)
    lesson = Lesson(lesson_config(folder, make_settings))
    keys = [damage(folder, int(row)) for row in (*lesson.rows[::60], lesson.view.test[0])]
    assert len(keys) == 4
    allowed = {"skip": 0.2, "bounded": 0.0, "error": 1.0}

    def job(name: str) -> dict[str, Any]:
        settings = make_settings(folder, tmp_path / name, data__workers=1)
        settings["data"] |= {"damage": "error" if name == "error" else "skip"}
        settings["data"] |= {"max_skipped": allowed[name]}
        return {"strategy": "cpu", "config": settings}

    results = together(tmp_path, 2, list(map(job, allowed)))
    assert results["skip"].outcome == "done"
    assert results["skip"].state()["skipped"] == 2 * 3  # each once in each of two epochs
    metrics = json.loads((results["skip"].run / "metrics.json").read_text())
    assert metrics["parts"]["test"]["skipped"] == 1
    assert metrics["parts"]["test"]["n"] == len(lesson.view.test) - 1
    assert "2 of " in results["bounded"].outcome
    assert "data.max_skipped=0 allows; run `emo-shards verify" in results["bounded"].outcome
    first = results["error"].outcome
    assert first.startswith("error: ")
    assert any(key in first for key in keys) or first == "error: rank 1 failed"
