"""Kept lines give the batch that reading gave, and no shard is read for them again."""

from typing import Any

import numpy as np
import torch

from emo.data import DataConfig, Samples
from emo.lines import Lines
from shards.index import open_dataset


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
