import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.store.index import COLUMNS, BadDataset, load_manifest, open_dataset
from shards.store.schema import CLEAN


def test_has_a_row_a_sample(built: Path, corpus: Path) -> None:
    dataset = open_dataset(built)
    assert dataset.table.column_names == list(COLUMNS)
    # 24 turns, 3 of them without majority; two variants beside the clean one for the rest.
    assert len(dataset) == 24 + 2 * 21
    variants = dataset.column("variant")
    without = dataset.column("label") == "xxx"
    assert set(variants[without]) == {CLEAN}
    turns = [json.loads(line) for line in (corpus / "turns.jsonl").read_text().splitlines()]
    clean = dataset.table.to_pylist()
    clean = [row for row in clean if row["variant"] == CLEAN]
    assert [row["utterance"] for row in clean] == [turn["id"] for turn in turns]
    for row, turn in zip(clean, turns, strict=True):
        assert row["votes"] == [[vote] for vote in turn["votes"]]
        assert row["text"] == turn["text"].removesuffix(" [LAUGHTER]")
        assert (row["speaker"], row["dialogue"], row["turn"]) == (
            turn["speaker"],
            turn["dialogue"],
            turn["turn"],
        )
        assert row["frames"] == 1 + round(row["seconds"] * 16000) // 256
        assert row["key"] == f"{turn['id']}__clean"


def test_dropped_is_the_vote_mass_outside_the_set(built: Path) -> None:
    dataset = open_dataset(built)
    assert set(dataset.column("dropped")) == {0.0}  # all votes are in the set of four


def test_manifest_counts(built: Path) -> None:
    manifest = load_manifest(built)
    summary = manifest.summary
    assert (summary.utterances, summary.samples) == (24, 66)
    assert summary.variants == {"clean": 24, "noise": 21, "shift": 21}
    assert summary.classes["outside the set"] == 3
    assert sum(summary.classes.values()) == sum(summary.sessions.values()) == 24
    assert sum(summary.snr.values()) == 24
    assert summary.bytes == sum(path.stat().st_size for path in built.glob("*.tar"))
    assert manifest.labels["happiness"] == ["hap", "exc"]
    assert manifest.features is not None
    assert (manifest.features["mels"], manifest.features["sample_rate"]) == (16, 16000)
    assert manifest.tokenizer is not None
    assert manifest.tokenizer["source"] == "learnt"
    dataset = open_dataset(built)
    clean = dataset.column("variant") == CLEAN
    assert summary.hours == pytest.approx(dataset.column("seconds")[clean].sum() / 3600, abs=1e-4)


def test_columns_come_as_numpy(built: Path) -> None:
    columns = open_dataset(built).columns("frames", "start", "split", "shard")
    assert columns["frames"].dtype == np.int64
    assert np.isnan(columns["start"]).all()
    assert columns["split"].tolist() == [None] * 66
    assert sorted(set(columns["shard"])) == [0, 1, 2]


def test_refuses_what_is_no_finished_dataset(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(BadDataset, match="is this the dataset's folder"):
        open_dataset(tmp_path / "nothing")
    (dataset / "manifest.json").unlink()
    with pytest.raises(BadDataset, match="has not finished"):
        open_dataset(dataset)


def test_refuses_another_schema(dataset: Path) -> None:
    manifest = load_manifest(dataset)
    path = dataset / "manifest.json"
    path.write_bytes(manifest.model_copy(update={"schema_version": 99}).dump())
    with pytest.raises(BadDataset, match="schema version 99"):
        open_dataset(dataset)


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet"])
def test_every_flipped_bit_and_cut_is_seen(dataset: Path, name: str) -> None:
    path = dataset / name
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(good), 60):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(BadDataset, match=r"emo-shards build|schema version"):
            open_dataset(dataset)
    for length in (0, 1, len(good) // 2, len(good) - 2):
        path.write_bytes(good[:length])
        with pytest.raises(BadDataset):
            open_dataset(dataset)


def test_refuses_the_index_of_another_build(dataset: Path, built: Path, small, tmp_path) -> None:
    from shards.build.job import build

    small.write_corpus(tmp_path / "corpus", turns=24, seconds=0.3)
    other = tmp_path / "other"
    build(small.config(tmp_path / "corpus", other), workers=1)
    shutil.copy(other / "index.parquet", dataset / "index.parquet")
    with pytest.raises(BadDataset, match="not the index"):
        open_dataset(dataset)
