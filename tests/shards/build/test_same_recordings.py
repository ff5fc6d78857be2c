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
from shards.build.vocabulary import _training_texts
from shards.configfile import digest
from shards.corpora.read import read_corpus
from shards.store import sidecar
from shards.store.describe import describe_dataset
from shards.store.index import INDEX, open_dataset
from shards.store.verify import check_dataset
from shards.views.view import COLUMNS, make_view


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


def test_no_word_of_a_copied_test_turn_is_in_the_vocabulary(tmp_path, small):
    """Turns 0 to 11 are copies of turns 12 to 23: no view has one of a pair in training alone."""
    small.write_corpus(tmp_path / "corpus")
    root = tmp_path / "corpus"
    rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["label"] = ("ang", "hap")[number % 2]
        row["text"] = f"word{number % 12:x}x"
        if number < 12:
            shutil.copy(root / rows[number + 12]["audio"], root / row["audio"])
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = {"labels": {"a": ["ang"], "b": ["hap"]}, "test": 0.3, "val": 0.2}
    config = small.config(root, tmp_path / "out", labels=view["labels"], vocabulary_view=view)
    build(config, workers=1)
    dataset = open_dataset(tmp_path / "out")
    drawn = make_view(dataset.columns(*COLUMNS), config.vocabulary_view)
    texts = dataset.column("text")
    assert sorted(set(texts[drawn.train])) == sorted(set(_training_texts(config, _turns(config))))
    assert not set(texts[drawn.train]) & set(texts[drawn.test])


def _turns(config):
    return read_corpus(config.corpus).utterances
