import os
import shutil
from pathlib import Path

import pytest

from shards.build.claim import load
from shards.build.job import build
from shards.build.merge import merge
from shards.errors import UserError
from shards.store import sidecar
from shards.store.index import open_dataset
from shards.store.schema import Sample
from shards.store.verify import DamagedDataset, check_dataset, find_faults
from shards.store.write import write_shard


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_whole_dataset_has_no_faults(built: Path) -> None:
    for deep in (False, True):
        assert check_dataset(built, deep, workers=1).summary.samples == 66
    assert check_dataset(built, deep=True, workers=2).summary.samples == 66


def test_quick_sees_sizes_sidecars_and_strangers(dataset: Path) -> None:
    with open(dataset / "shard-00000.tar", "ab") as file:
        file.write(b"\0")
    (dataset / "shard-00001.tar").unlink()
    flip(dataset / "shard-00002.json", 200)
    shutil.copy(dataset / "shard-00000.json", dataset / "shard-00001.json")
    (dataset / "shard-00009.tar").write_bytes(b"x")
    (dataset / "index.parquet.tmp.host.1").write_bytes(b"x")
    (dataset / "rejected.jsonl").unlink()
    found = {fault.where: fault.what for fault in find_faults(dataset)[1]}
    expected = {
        "shard-00000.tar": "in the manifest",
        "shard-00001.tar": "No such file",
        "shard-00001.json": "another shard's",
        "shard-00002.json": "damaged",
        "shard-00009.tar": "no such shard",
        "index.parquet.tmp.host.1": "temporary",
        "rejected.jsonl": "missing",
    }
    assert found.keys() == expected.keys()
    for where, part in expected.items():
        assert part in found[where]


def test_quick_sees_another_tokenizer(dataset: Path) -> None:
    path = dataset / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace('"##', '"#', 1))
    with pytest.raises(DamagedDataset, match="not the tokenizer"):
        check_dataset(dataset)
    path.unlink()
    (dataset / "tokenizer" / "facts.json").unlink()
    with pytest.raises(DamagedDataset, match="is not whole"):
        check_dataset(dataset)


def test_deep_names_shard_key_member_and_remedy(dataset: Path) -> None:
    row = open_dataset(dataset).table.slice(4, 1).to_pylist()[0]
    flip(dataset / "shard-00000.tar", row["mfcc.offset"] + 200)
    assert not find_faults(dataset)[1]  # the size is as it was
    with pytest.raises(DamagedDataset) as caught:
        check_dataset(dataset, deep=True, workers=2)
    message = str(caught.value)
    place = f"shard-00000.tar: {row['key']}, mfcc at byte {row['mfcc.offset']}: checksum"
    for part in ("2 faults", "SHA-256", place, "emo-shards build", "check=deep"):
        assert part in message


@pytest.mark.parametrize("where", ["header", "padding", "end"])
def test_deep_sees_bits_that_no_sample_needs(dataset: Path, where: str) -> None:
    row = open_dataset(dataset).table.slice(0, 1).to_pylist()[0]
    path = dataset / "shard-00000.tar"
    position = {
        "header": row["json.offset"] - 512 + 3,  # in the name
        "padding": row["json.offset"] + row["json.size"] + 1,
        "end": path.stat().st_size - 1,
    }[where]
    flip(path, position)
    found = [str(fault) for fault in find_faults(dataset, deep=True, workers=1)[1]]
    assert any("SHA-256" in fault for fault in found)
    assert any(row["key"] in fault for fault in found) == (where == "header")


def republish(folder: Path, small, corpus: Path, change) -> None:
    """Write shard 0 anew with changed samples, consistently: only its meaning is wrong."""
    build_file = load(folder)
    dataset = open_dataset(folder)
    from shards.store.read import ShardReader

    reader = ShardReader(dataset, ("logmel", "mfcc", "tokens"))
    samples = []
    for number, entry in enumerate(sidecar.load(folder, 0).entries):
        arrays = {name: array.copy() for name, array in reader.read(number).items()}
        samples.append(Sample(entry.key, dict(entry.meta), arrays))
    change(samples)
    write_shard(folder, 0, build_file.digest, 8, samples)
    merge(folder, build_file, max_rejected=1.0)


def test_deep_checks_meaning_too(dataset: Path, small, corpus: Path) -> None:
    def change(samples: list[Sample]) -> None:
        samples[0].meta["label"] = "Joy"
        samples[1].meta["variant"] = "reversed"
        samples[2].arrays["logmel"] = samples[2].arrays["logmel"][:-1]
        samples[3].arrays["mfcc"] = samples[3].arrays["mfcc"][:, :3]
        samples[4].arrays["tokens"] = samples[4].arrays["tokens"][:-1]

    republish(dataset, small, corpus, change)
    assert not find_faults(dataset)[1]
    lines = [str(fault) for fault in find_faults(dataset, deep=True, workers=1)[1]]
    assert len(lines) == 5
    parts = ("unknown label 'Joy'", "unknown variant 'reversed'", "logmel", "mfcc", "tokens")
    for line, part in zip(lines, parts, strict=True):
        assert part in line


def test_deep_sees_nan(dataset: Path) -> None:
    """A NaN that CRC and SHA-256 agree with: some other program wrote it."""
    import numpy as np

    from shards.store import verify
    from shards.store.schema import MEMBERS

    opened = open_dataset(dataset)
    entry = opened.table.slice(0, 1).to_pylist()[0]
    array = np.zeros((entry["frames"], 16), np.float16)
    array[1, 2] = np.nan
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    body = memoryview(stream.getvalue())
    expected = verify._expected(opened.manifest)
    assert expected.widths["logmel"] == 16
    (fault,) = verify._array("x", MEMBERS["logmel"], body, entry, expected)
    assert "NaN" in fault.what


def test_build_rewrites_only_what_is_broken(
    dataset: Path, built: Path, small, corpus: Path
) -> None:
    before = {path.name: os.stat(path).st_ino for path in dataset.glob("*.tar")}
    flip(dataset / "shard-00001.tar", 5000)  # only a deep check sees it
    (dataset / "shard-00002.tar").write_bytes(b"")
    flip(dataset / "manifest.json", 100)
    flip(dataset / "index.parquet", 100)
    config = small.config(corpus, dataset)
    build(config, workers=1)
    assert (dataset / "shard-00001.tar").read_bytes() != (built / "shard-00001.tar").read_bytes()
    build(config, workers=1, deep=True)
    mine, theirs = small.contents(dataset), small.contents(built)
    assert {name for name in mine if mine[name] != theirs[name]} == set()
    after = {path.name: os.stat(path).st_ino for path in dataset.glob("*.tar")}
    assert after["shard-00000.tar"] == before["shard-00000.tar"]
    check_dataset(dataset, deep=True, workers=1)


def test_the_printed_remedy_works(dataset: Path, built: Path, small) -> None:
    from shards.__main__ import main

    flip(dataset / "shard-00001.tar", 5000)
    with pytest.raises(DamagedDataset) as caught:
        check_dataset(dataset, deep=True, workers=1)
    command = str(caught.value).split("emo-shards ")[1].split(" (rewrites")[0]
    assert main([*command.split(), "workers=1"]) == 0
    assert small.contents(dataset) == small.contents(built)


@pytest.mark.parametrize("harm", ["bit", "facts", "file", "folder"])
def test_build_mends_a_damaged_tokenizer(
    dataset: Path, built: Path, small, corpus: Path, harm: str
) -> None:
    folder = dataset / "tokenizer"
    if harm == "bit":
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"##', '"#', 1))
    elif harm == "folder":
        shutil.rmtree(folder)
    else:
        (folder / ("facts.json" if harm == "facts" else "tokenizer.json")).unlink()
    with pytest.raises(DamagedDataset, match=r"tokenizer.*emo-shards build"):
        check_dataset(dataset)
    with pytest.raises(UserError, match="tokenizer"):  # it is not taken for what it was
        merge(dataset, load(dataset), max_rejected=0.0)
    build(small.config(corpus, dataset), workers=1)
    assert small.contents(dataset) == small.contents(built)


def test_a_tokenizer_that_has_changed_does_not_mend_a_damaged_one(
    built: Path, small, corpus: Path, tmp_path: Path
) -> None:
    """The samples were made with the one that is gone: their ids would mean something else."""
    source = tmp_path / "source"
    shutil.copytree(built / "tokenizer", source)
    config = small.config(corpus, tmp_path / "out", text={"tokenizer": str(source)}, features=None)
    build(config, workers=1)
    path = source / "tokenizer.json"
    path.write_text(path.read_text().replace('"piano"', '"piamo"'))
    build(config, workers=1)  # the copy in the dataset is whole
    (tmp_path / "out" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="is no longer the tokenizer it was"):
        build(config, workers=1)
