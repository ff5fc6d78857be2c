import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shards.corpora.utterance import Utterance
from shards.store import sidecar
from shards.store.codecs import decode_npy
from shards.store.schema import Sample, metadata, sample_key
from shards.store.sidecar import Flag, Rejection
from shards.store.write import encode, write_shard


def sample(number: int, variant: str = "clean", frames: int = 5) -> Sample:
    turn = Utterance(f"turn.{number}", None, "hé", "ang", (("ang",),), "s", "1", "d", number)
    rng = np.random.default_rng(number)
    arrays = {
        "logmel": rng.normal(-40, 20, (frames, 16)).astype(np.float32),
        "tokens": np.arange(number + 1),
    }
    meta = metadata(turn, variant, arrays, "hé", 1.0, 20.0)
    return Sample(sample_key(turn.id, variant), meta, arrays)


def test_encodes_by_the_schema() -> None:
    members = encode(sample(3))
    assert list(members) == ["json", "logmel.npy", "tokens.npy"]
    assert json.loads(members["json"])["text"] == "hé"
    for name, dtype in (("logmel.npy", np.float16), ("tokens.npy", np.int32)):
        array = decode_npy(memoryview(members[name]))
        assert array.dtype == dtype
        name_without = name.removesuffix(".npy")
        np.testing.assert_array_equal(array, sample(3).arrays[name_without].astype(dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70000.0])
def test_refuses_what_float16_cannot_hold(bad: float) -> None:
    one = sample(1)
    one.arrays["logmel"][2, 3] = bad
    with pytest.raises(ValueError, match="float16"):
        encode(one)


def test_refuses_unknown_members_and_huge_ids() -> None:
    one = sample(1)
    with pytest.raises(ValueError, match="no such member: 'wave'"):
        encode(Sample(one.key, one.meta, {"wave": np.zeros(3)}))
    with pytest.raises(ValueError, match="int32"):
        encode(Sample(one.key, one.meta, {"tokens": np.array([2**40])}))


def test_bytes_depend_on_samples_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1, 1))
        write_shard(tmp_path / name, 3, "build", 4, [sample(0), sample(1), sample(1, "noise")])
    first, second = ((tmp_path / name / "shard-00003.tar").read_bytes() for name in "ab")
    assert first == second
    with tarfile.open(tmp_path / "a" / "shard-00003.tar") as tar:
        infos = tar.getmembers()
    assert {info.mtime for info in infos} == {0}
    assert {(info.uname, info.gname, info.uid, info.gid) for info in infos} == {
        ("emo", "emo", 0, 0)
    }
    assert [info.name for info in infos][:3] == [
        "turn%2E0__clean.json",
        "turn%2E0__clean.logmel.npy",
        "turn%2E0__clean.tokens.npy",
    ]


def test_sidecar_tells_where_everything_lies(tmp_path: Path) -> None:
    rejection = Rejection("turn.9", "silent", "nothing to hear", "f:9")
    flag = Flag("turn.0", "clipped", "flat", "f:1")
    write_shard(tmp_path, 0, "build", 3, [flag, sample(0), rejection, sample(2)])
    found = sidecar.load(tmp_path, 0)
    data = (tmp_path / "shard-00000.tar").read_bytes()
    assert found.size == len(data)
    assert (found.build, found.utterances) == ("build", 3)
    assert (found.rejected, found.flagged) == ((rejection,), (flag,))
    assert [entry.key for entry in found.entries] == [sample(0).key, sample(2).key]
    place = found.entries[1].members["logmel"]
    array = decode_npy(memoryview(data)[place.offset : place.offset + place.size])
    np.testing.assert_array_equal(array, sample(2).arrays["logmel"].astype(np.float16))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shard-00000.json",
        "shard-00000.tar",
    ]


def test_long_and_odd_names_survive(tmp_path: Path) -> None:
    turn = Utterance("ü/" + "x" * 300, None, None, "ang", (), "s", "1", "d", 0)
    key = sample_key(turn.id, "clean")
    arrays = {"tokens": np.arange(2)}
    meta = metadata(turn, "clean", arrays, None, None, None)
    assert (meta["frames"], meta["tokens"]) == (0, 2)
    write_shard(tmp_path, 0, "b", 1, [Sample(key, meta, arrays)])
    assert sidecar.load(tmp_path, 0).entries[0].meta["utterance"] == turn.id


def test_a_shard_of_rejected_turns_only(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "b", 1, [Rejection("a", "silent", "x", "f:1")])
    assert sidecar.load(tmp_path, 0).entries == ()


def test_nothing_is_left_when_the_samples_fail(tmp_path: Path) -> None:
    def items():
        yield sample(0)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path, 0, "b", 2, items())
    assert not list(tmp_path.iterdir())
