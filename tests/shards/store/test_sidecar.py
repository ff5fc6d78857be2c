import json
from pathlib import Path

import numpy as np
import pytest

from shards.configfile import digest
from shards.store import sidecar
from shards.store.sidecar import BadSidecar, Entry, Flag, Place, Rejection, Sidecar

ONE = Sidecar(
    shard=0,
    build="b",
    utterances=3,
    size=10240,
    sha256="0" * 64,
    entries=(
        Entry("a__clean", {"text": "hé", "start": None}, {"json": Place(512, 20, 7)}),
        Entry("b__clean", {"text": None, "start": 0.5}, {"json": Place(1536, 20, 2**32 - 1)}),
    ),
    rejected=(Rejection("c", "silent", "nothing to hear", "f:3"),),
    flagged=(Flag("a", "clipped", "flat", "f:1"),),
)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    sidecar.save(tmp_path, ONE)
    assert sidecar.load(tmp_path, 0) == ONE
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.json"]


def test_refuses_another_schema(tmp_path: Path) -> None:
    sidecar.save(tmp_path, ONE)
    path = tmp_path / "shard-00000.json"
    content = json.loads(path.read_text())
    del content["digest"]
    content["schema"] = 99
    path.write_text(json.dumps(content | {"digest": digest(content)}))
    with pytest.raises(BadSidecar, match="schema version 99"):
        sidecar.load(tmp_path, 0)


def test_damaged_and_foreign_sidecars_are_refused(tmp_path: Path) -> None:
    sidecar.save(tmp_path, ONE)
    path = tmp_path / "shard-00000.json"
    good = path.read_bytes()
    (tmp_path / "shard-00001.json").write_bytes(good)
    with pytest.raises(BadSidecar, match="another shard's"):
        sidecar.load(tmp_path, 1)
    with pytest.raises(BadSidecar, match="missing"):
        sidecar.load(tmp_path, 2)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(good), 50):
        flipped = bytearray(good)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(BadSidecar):
            sidecar.load(tmp_path, 0)
    for length in (0, 1, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(BadSidecar):
            sidecar.load(tmp_path, 0)
