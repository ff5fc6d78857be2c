"""Kept lines give the batch that reading gave, and no shard is read for them again."""

from typing import Any

import numpy as np
import torch

from emo.data.config import DataConfig
from emo.data.lines import Lines
from emo.data.plan import Plan, PlanConfig
from emo.data.samples import Samples, TrainingSteps
from shards.store.index import open_dataset


def text_samples(folder: Any) -> Samples:
    dataset = open_dataset(folder)
    count = len(dataset)
    labels, targets = np.zeros(count, np.int64), np.ones((count, 1), np.float32)
    return Samples(
        dataset, ["tokens"], labels=labels, targets=targets, statistics=None, pad_token=7,
        config=DataConfig(shards=folder),
    )  # fmt: skip


def test_the_second_batch_is_the_first_without_reading(tiny, monkeypatch):
    samples, rows = text_samples(tiny), np.array([5, -1, 0, 31, 8])
    _, longest = samples.lengths(rows)
    first = samples.batch(rows, 1, longest)
    shorter = text_samples(tiny).batch(rows, 1, 3)
    assert first["token_mask"].sum(1).tolist() == [
        samples.tokens[row] if row >= 0 else 0 for row in rows
    ]
    monkeypatch.setattr(samples.reader, "read", None)  # a call would raise
    for again, wanted in (
        (samples.batch(rows, 1, longest), first),
        (samples.batch(rows, 1, 3), shorter),
    ):
        assert again.keys() == wanted.keys()
        assert all(torch.equal(again[name], wanted[name]) for name in wanted)
        assert all(again[name].dtype == wanted[name].dtype for name in wanted)


def test_kept_and_unread_rows_mix(tiny):
    samples = text_samples(tiny)
    samples.batch(np.array([3, 4]), 1, samples.lengths(np.array([3, 4]))[1])
    rows = np.array([4, 9, 3, -1])
    longest = samples.lengths(rows)[1]
    mixed, fresh = samples.batch(rows, 1, longest), text_samples(tiny).batch(rows, 1, longest)
    assert all(torch.equal(mixed[name], fresh[name]) for name in fresh)


def test_lines_are_padded_and_say_which_rows_they_hold():
    lines = Lines(np.array([3, 2, 4]), pad=5)
    lines.keep(2, np.array([9, 8, 7, 6]))
    lines.keep(1, np.array([0, 1]))
    tokens, sizes = lines.take(np.array([2, 0, -1, 1]), 3)
    assert tokens.tolist() == [[9, 8, 7], [5, 5, 5], [5, 5, 5], [0, 1, 5]]
    assert sizes.tolist() == [4, 0, 0, 2]
    assert tokens.dtype == sizes.dtype == np.int64


def test_steps_made_together_are_the_steps_made_alone(tiny):
    """Each is padded to its own longest line, whatever it was made with, and its counts are its."""
    samples, alone = text_samples(tiny), text_samples(tiny)
    assert samples.at_once > 2
    alone._lines = None
    rows = np.flatnonzero(samples.tokens > 0)[:50]
    plan = Plan(PlanConfig(order="shuffle"), units=len(rows), global_batch=12, seed=1)
    widths = set()
    for world, rank, accumulation in ((1, 0, 1), (2, 1, 1), (2, 0, 3)):
        together, one = (
            TrainingSteps(
                kind, rows, plan, plan.start(), epochs=9, world=world, rank=rank,
                accumulation=accumulation,
            )
            for kind in (samples, alone)
        )  # fmt: skip
        assert len(together) == 45 > samples.at_once
        for step in (*range(len(one)), 3, 40):
            for got, wanted in zip(together[step], one[step], strict=True):
                assert got.keys() == wanted.keys()
                assert all(torch.equal(got[name], wanted[name]) for name in wanted)
                assert all(got[name].dtype == wanted[name].dtype for name in wanted)
                widths.add(got["tokens"].shape[1])
    assert len(widths) > 1
