"""Normalisation by the training part: right numbers, the same on any number of ranks."""

import numpy as np
import pytest
import torch

from emo.data.normalise.base import Moments, model_input
from emo.data.normalise.sums import CHUNK, feature_sums, in_chunks, moments_of
from emo.data.normalise.train import TrainStatistics
from shards.errors import UserError
from shards.store.index import open_dataset
from shards.store.read import ShardReader


def test_mean_and_deviation_are_those_of_all_frames(tiny):
    dataset = open_dataset(tiny)
    rows = np.arange(len(dataset))
    moments = moments_of(feature_sums(dataset, "logmel", [rows], world=1, rank=0))
    reader = ShardReader(dataset, ["logmel"])
    x_TF = np.concatenate([reader.read(row)["logmel"] for row in rows]).astype(np.float64)
    assert moments.frames == len(x_TF)
    np.testing.assert_allclose(moments.mean, x_TF.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.std, x_TF.std(0), rtol=1e-5)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_add_the_same_sums_in_the_same_order(tiny, world):
    dataset = open_dataset(tiny)
    rows = np.arange(len(dataset)).repeat(4)
    chunks = [chunk for _, chunk in in_chunks({"a": rows, "b": rows[:3]})]
    assert len(chunks) > 3
    assert max(map(len, chunks)) == CHUNK
    alone = feature_sums(dataset, "logmel", chunks, world=1, rank=0)
    together = np.empty_like(alone)
    for rank in range(world):
        together[rank::world] = feature_sums(dataset, "logmel", chunks, world=world, rank=rank)
    np.testing.assert_array_equal(together, alone)


def test_moments_of_nothing_are_refused():
    with pytest.raises(UserError, match="does this corpus have audio"):
        moments_of(np.zeros((2, 5)))


def test_what_a_model_reads():
    statistics = TrainStatistics(Moments(np.array([1, 2], "f4"), np.array([2, 4], "f4"), 9))
    assert statistics.to_json() == TrainStatistics.from_json(statistics.to_json()).to_json()
    stored = torch.tensor([[[3.0, 6.0], [float("nan"), 7.0]]], dtype=torch.float16)
    mask = torch.tensor([[True, False]])
    read = model_input(stored, mask, statistics)
    torch.testing.assert_close(read, torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
    wave = torch.tensor([[-32768, 16384]], dtype=torch.int16)
    torch.testing.assert_close(model_input(wave, mask, None), torch.tensor([[-1.0, 0.5]]))
