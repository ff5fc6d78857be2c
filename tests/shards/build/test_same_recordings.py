"""A recording twice in a corpus: the build counts it, and old datasets stay as they are."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from shards.build import claim
from shards.build.job import build
from shards.build.merge import merge
from shards.configfile import digest
from shards.store import sidecar
from shards.store.describe import describe_dataset
from shards.store.index import INDEX, open_dataset
from shards.store.verify import check_dataset


@pytest.fixture
def twice(tmp_path, small):
    """A corpus in which turn 5 is turn 2 in FLAC, and turn 9 is turn 2 copied."""
    small.write_corpus(tmp_path / "corpus")
    root = tmp_path / "corpus"
    samples, rate = soundfile.read(root / "turn0002.wav", dtype="int16")
    soundfile.write(root / "again.flac", samples, rate)
    shutil.copy(root / "turn0002.wav", root / "copy.wav")
    rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
    rows[5]["audio"], rows[9]["audio"] = "again.flac", "copy.wav"
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_the_same_sound_is_counted_whatever_its_name_and_container(twice, small, tmp_path):
    manifest = build(small.config(twice, tmp_path / "out"), workers=1)
    assert manifest.summary.same_recordings == 2
    assert "recordings  2 are the same sound as another" in describe_dataset(manifest)
    dataset = open_dataset(tmp_path / "out")
    names, turns = dataset.column("recording"), dataset.column("utterance")
    assert all(isinstance(name, str) and len(name) == 64 for name in names)
    of_turn = {turn: set(names[turns == turn]) for turn in set(turns)}
    assert all(len(found) == 1 for found in of_turn.values()), "variants name their source"
    assert of_turn["turn0002"] == of_turn["turn0005"] == of_turn["turn0009"]
    assert len(set(names)) == len(of_turn) - 2
    check_dataset(tmp_path / "out", deep=True, workers=1)


def test_no_word_where_all_recordings_differ(built):
    dataset = open_dataset(built)
    assert dataset.manifest.summary.same_recordings == 0
    assert "same sound" not in describe_dataset(dataset.manifest)


def test_shards_of_a_program_that_knew_no_recordings_make_the_dataset_they_made(dataset):
    new = open_dataset(dataset)
    for number in range(len(new.manifest.shards)):
        path = sidecar.sidecar_path(dataset, number)
        content = json.loads(path.read_bytes())
        del content["digest"]
        for sample in content["samples"]:
            del sample["recording"]
        path.write_text(json.dumps(content | {"digest": digest(content)}))
    merge(dataset, claim.load(dataset), 0.0)
    old = open_dataset(dataset)
    assert "recording" not in pq.read_schema(dataset / INDEX).names
    assert old.manifest.dataset_hash == new.manifest.dataset_hash
    assert not np.array([name is not None for name in old.column("recording")]).any()
    assert old.table.drop_columns(["recording"]).equals(new.table.drop_columns(["recording"]))
    check_dataset(dataset, deep=True, workers=1)
