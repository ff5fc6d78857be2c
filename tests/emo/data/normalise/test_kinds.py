"""Every kind of normalisation: by whom it is measured, and that it survives being written."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emo.data import normalise
from emo.data.normalise.base import Moments
from emo.data.normalise.corpus import CorpusStatistics
from emo.data.normalise.speaker import SpeakerStatistics
from emo.data.normalise.sums import feature_sums, in_chunks, moments_of
from emo.data.normalise.train import TrainStatistics
from emo.data.normalise.turn import TurnStatistics
from shards.errors import UserError
from shards.store.index import open_dataset
from shards.store.read import ShardReader


def measured(dataset, kind, rows):
    """The normaliser `kind`, measured by one rank."""
    groups = kind.groups(dataset, rows)
    moments = {
        name: moments_of(
            feature_sums(
                dataset, "logmel", [c for _, c in in_chunks({name: mine})], world=1, rank=0
            )
        )
        for name, mine in groups.items()
    }
    return kind.of(moments, 16)


@given(
    arrays(np.float32, (7, 3), elements=st.floats(-80, 80, width=32)),
    st.integers(1, 7),
    st.sampled_from([0.25, 4.0]),
    st.floats(-30, 30, width=16),
)
def test_a_turn_has_mean_0_and_deviation_1_whatever_its_gain_was(x_TF, frames, gain, offset):
    x_TF[frames:] = np.nan  # padding may hold anything
    stored, mask = torch.from_numpy(x_TF)[None], (torch.arange(7) < frames)[None]
    once = TurnStatistics(3).normalise(stored, mask, None)[0]
    assert not once[frames:].any()
    valid = once[:frames].double()
    for bin_, std in enumerate(x_TF[:frames].astype(np.float64).std(0)):
        if std > 1e-2:  # a constant bin has nothing to scale
            assert abs(valid[:, bin_].mean()) < 1e-2
            assert abs(valid[:, bin_].std(correction=0) - 1) < 1e-2
            again = TurnStatistics(3).normalise(stored * gain + offset, mask, None)[0]
            torch.testing.assert_close(
                again[:frames, bin_], once[:frames, bin_], atol=2e-2, rtol=1e-2
            )


def test_a_speaker_is_measured_on_all_of_his_clean_turns_and_nobody_else(tiny):
    dataset = open_dataset(tiny)
    kind = measured(dataset, SpeakerStatistics, np.arange(1)).bound(dataset)
    reader, speakers = ShardReader(dataset, ["logmel"]), dataset.column("speaker").astype(str)
    clean = dataset.column("variant") == "clean"
    for speaker in np.unique(speakers)[:3]:
        rows = np.flatnonzero((speakers == speaker) & clean)
        x_TF = [torch.from_numpy(reader.read(row)["logmel"].copy()) for row in rows]
        normal = torch.cat(
            [
                kind.normalise(
                    x[None], torch.ones(1, len(x), dtype=torch.bool), torch.tensor([row])
                )[0]
                for x, row in zip(x_TF, rows, strict=True)
            ]
        ).double()
        torch.testing.assert_close(normal.mean(0), torch.zeros(16).double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(
            normal.std(0, correction=0), torch.ones(16).double(), atol=2e-3, rtol=0
        )


def test_a_corpus_is_measured_on_its_clean_turns_of_every_part(tiny):
    dataset = open_dataset(tiny)
    clean = np.flatnonzero(dataset.column("variant") == "clean")
    assert len(clean) < len(dataset)
    all_of_it = measured(dataset, TrainStatistics, clean)
    assert measured(dataset, CorpusStatistics, clean[:2]).moments.to_json() == (
        all_of_it.moments.to_json()
    )


@pytest.mark.parametrize("name", normalise.NORMALISERS)
def test_every_kind_is_read_as_it_was_written(tiny, name):
    dataset = open_dataset(tiny)
    kind = measured(dataset, normalise.NORMALISERS[name], np.arange(20))
    again = normalise.from_json(json.loads(json.dumps(kind.to_json())))
    assert (again.kind, again.bins) == (name, 16)
    x = torch.randn(2, 5, 16)
    mask, rows = torch.ones(2, 5, dtype=torch.bool), torch.tensor([3, -1])
    torch.testing.assert_close(
        again.bound(dataset).normalise(x, mask, rows),
        kind.bound(dataset).normalise(x, mask, rows),
        rtol=0,
        atol=0,
    )


def test_a_recording_alone_is_normalised_by_itself_where_its_speaker_is_unknown():
    moments = Moments(np.zeros(2, "f4"), np.ones(2, "f4"), 4)
    assert isinstance(SpeakerStatistics({"a": moments}).alone(), TurnStatistics)
    assert "by itself" in SpeakerStatistics.remark
    assert TrainStatistics(moments).alone().to_json() == moments.to_json()
    assert not TrainStatistics.remark


def test_nameless_and_unmeasured_speakers_are_refused(tiny, monkeypatch):
    dataset = open_dataset(tiny)
    moments = Moments(np.zeros(16, "f4"), np.ones(16, "f4"), 4)
    with pytest.raises(UserError, match="not measured in training"):
        SpeakerStatistics({"nobody else": moments}).bound(dataset)
    nameless = type(dataset)(
        dataset.folder,
        dataset.manifest,
        dataset.table.set_column(
            dataset.table.column_names.index("speaker"),
            "speaker",
            [["unknown"] * len(dataset)],
        ),
    )
    with pytest.raises(UserError, match="have no speaker; set data"):
        SpeakerStatistics.groups(nameless, np.arange(3))
