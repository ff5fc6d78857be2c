import gc
import multiprocessing
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from torch.utils.data import DataLoader

from shards.store.codecs import decode_npy
from shards.store.index import open_dataset
from shards.store.read import DamagedSample, ShardReader

MEMBERS = ("logmel", "mfcc", "tokens")


def rows(reader: ShardReader, **options: Any) -> DataLoader:
    """A loader of single samples: `reader.read` runs in the loader's workers."""
    return DataLoader(range(len(reader)), batch_size=None, collate_fn=reader.read, **options)  # type: ignore[arg-type]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in MEMBERS)


def resident() -> int:
    """This process' resident memory, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_gives_what_webdataset_gives(built: Path) -> None:
    """Both read the same tars: all samples, the same bytes."""
    dataset = open_dataset(built)
    reader = ShardReader(dataset, MEMBERS)
    urls = [str(path) for path in sorted(built.glob("*.tar"))]
    stream = webdataset.WebDataset(urls, shardshuffle=False).decode()
    count = 0
    for row, sample in enumerate(stream):
        ours = reader.read(row)
        assert sample["__key__"] == reader.key(row)
        assert sample["json"]["utterance"] == dataset.column("utterance")[row]
        for name in MEMBERS:
            theirs = sample[f"{name}.npy"]
            assert ours[name].dtype == theirs.dtype
            np.testing.assert_array_equal(ours[name], theirs)
        count += 1
    assert count == len(reader) == len(dataset)


@pytest.mark.parametrize(
    "members", [("tokens",), ("logmel",), ("tokens", "logmel"), ("json", "tokens")]
)
def test_reads_any_choice_of_members(built: Path, members: tuple[str, ...]) -> None:
    reader, whole = ShardReader(built, members), ShardReader(built, ("json", *MEMBERS))
    for row in range(len(reader)):
        chosen = reader.read(row)
        assert set(chosen) == set(members)
        for name, array in chosen.items():
            np.testing.assert_array_equal(array, whole.read(row)[name])


def test_far_members_are_fetched_one_by_one(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = ShardReader(built, ("json", "tokens"))
    expected = near.read(0)
    monkeypatch.setattr("shards.store.read.MAX_GAP", 0)
    for name, array in near.read(0).items():
        np.testing.assert_array_equal(array, expected[name])


def test_absent_members_are_absent(small, corpus: Path, tmp_path: Path) -> None:
    from shards.build.job import build

    build(small.config(corpus, tmp_path / "text", features=None), workers=1)
    reader = ShardReader(tmp_path / "text", MEMBERS)
    assert set(reader.read(0)) == {"tokens"}
    assert len(reader) == 24  # clean rows only


def test_refuses_bad_rows_and_members(built: Path) -> None:
    reader = ShardReader(built, ("tokens",))
    for row in (-1, len(reader)):
        with pytest.raises(IndexError):
            reader.read(row)
    with pytest.raises(ValueError, match="wave"):
        ShardReader(built, ("wave",))
    with pytest.raises(ValueError, match="each must be one of"):
        ShardReader(built, ())


def test_damage_is_named(dataset: Path) -> None:
    table = open_dataset(dataset).table
    offset = table["logmel.offset"][3].as_py()
    path = dataset / "shard-00000.tar"
    data = bytearray(path.read_bytes())
    data[offset + 300] ^= 4
    path.write_bytes(data)
    reader = ShardReader(dataset, MEMBERS)
    reader.read(2)
    with pytest.raises(DamagedSample) as caught:
        reader.read(3)
    error = caught.value
    key = table["key"][3].as_py()
    assert (error.shard, error.key, error.member) == ("shard-00000.tar", key, "logmel")
    assert (error.offset, error.row) == (offset, 3)
    for part in (str(path), key, "logmel", str(offset), "CRC32", "emo-shards build", "check=deep"):
        assert part in str(error)
    again = pickle.loads(pickle.dumps(error))  # the way back from a loader's worker
    assert (str(again), again.key, again.row) == (str(error), error.key, error.row)


def test_missing_and_resized_shards_are_named(dataset: Path) -> None:
    (dataset / "shard-00001.tar").unlink()
    with open(dataset / "shard-00002.tar", "ab") as file:
        file.write(b"x")
    reader = ShardReader(dataset, MEMBERS)
    shards = open_dataset(dataset).column("shard")
    for row in range(len(reader)):
        if shards[row] == 0:
            reader.read(row)
            continue
        with pytest.raises(DamagedSample, match="No such file" if shards[row] == 1 else "bytes"):
            reader.read(row)


def test_few_open_files(built: Path) -> None:
    reader = ShardReader(built, MEMBERS, max_open=1)
    rng = np.random.default_rng(0)
    before = len(os.listdir("/proc/self/fd"))
    for row in rng.permutation(len(reader)).tolist():
        reader.read(row)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    del reader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_opens_nothing_before_the_first_read(built: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader = ShardReader(built, MEMBERS)
    assert len(os.listdir("/proc/self/fd")) == before
    reader.read(0)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert pickle.loads(pickle.dumps(reader)).read(0).keys() == reader.read(0).keys()


def test_threads_share_a_reader(built: Path) -> None:
    reader = ShardReader(built, MEMBERS, max_open=1)  # files are closed under each other's feet
    expected = [reader.read(row) for row in range(len(reader))]
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for row in np.random.default_rng(seed).integers(0, len(reader), 300).tolist():
                if not same(reader.read(row), expected[row]):
                    wrong.append(row)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loader_workers_read_every_sample_once(built: Path, method: str) -> None:
    reader = ShardReader(built, MEMBERS)
    expected = [reader.read(row) for row in range(len(reader))]  # files are open now
    context = multiprocessing.get_context(method)
    loader = rows(reader, num_workers=2, persistent_workers=True, multiprocessing_context=context)
    for _ in range(2):
        found = list(loader)
        assert len(found) == len(expected)
        assert all(map(same, found, expected))


def test_loader_workers_report_damage(dataset: Path) -> None:
    (dataset / "shard-00001.tar").write_bytes(b"")
    with pytest.raises(DamagedSample, match=r"shard-00001\.tar.*repair"):
        list(rows(ShardReader(dataset, MEMBERS), num_workers=1))


def test_a_workers_memory_does_not_grow(built: Path) -> None:
    reader = ShardReader(built, MEMBERS)

    def read(row: int) -> int:
        reader.read(row)
        return resident()

    loader = DataLoader(
        range(len(reader)),  # type: ignore[arg-type]
        batch_size=None,
        shuffle=True,
        collate_fn=read,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=multiprocessing.get_context("fork"),
    )
    most = [max(loader) for _ in range(25)]  # bytes, by epoch
    assert most[-1] - most[4] < 1 << 20


class TestDecode:
    @staticmethod
    def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> memoryview:
        import io

        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
        return memoryview(stream.getvalue())

    @pytest.mark.parametrize("dtype", ["<f2", "<f4", "<i4", "u1", ">i2"])
    @pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0, 4), (2, 3, 4)])
    def test_equals_numpy(self, dtype: str, shape: tuple[int, ...]) -> None:
        array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        result = decode_npy(self.npy(array))
        assert (result.dtype, result.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(result, array)
        assert not result.flags.writeable

    def test_refuses_pickles_and_other_formats(self) -> None:
        with pytest.raises(ValueError, match="pickles"):
            decode_npy(self.npy(np.array([{}, None], dtype=object)))
        with pytest.raises(ValueError, match=r"1\.0"):
            decode_npy(self.npy(np.zeros(3), version=(2, 0)))
        with pytest.raises(ValueError, match="Fortran"):
            decode_npy(self.npy(np.asfortranarray(np.zeros((3, 4)))))
        for junk in (b"", b"\x93NUMPY", b"x" * 200, b"\x93NUMPY\x01\x00\xff\xff{}"):
            with pytest.raises(ValueError, match=r"1\.0|eader"):
                decode_npy(memoryview(junk))

    def test_refuses_bytes_that_do_not_fit(self) -> None:
        good = bytes(self.npy(np.arange(6)))
        for data in (good[:-1], good + b"\0"):
            with pytest.raises(ValueError, match="do not hold"):
                decode_npy(memoryview(data))
