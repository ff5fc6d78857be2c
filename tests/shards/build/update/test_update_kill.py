"""`kill -9` of an update at random moments: the older or the newer dataset, whole, never half."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse
from shards.store.index import load_manifest
from shards.store.verify import check_dataset

TURNS = 120


@dataclass
class Update:
    """A dataset whose corpus has changed, and what an undisturbed update makes of it."""

    root: Path
    config: Path
    old: str  # the dataset's hash before
    new: str  # and after
    expected: dict[str, bytes]
    seconds: float

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "shards", "build", str(self.config), "workers=2"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def changed(small, tmp_path_factory) -> Update:
    root = tmp_path_factory.mktemp("killed")
    small.write_corpus(root / "corpus", TURNS)
    raw = small.settings(root / "corpus", Path("out"), text=None)
    raw["output"] = {"folder": str(root / "first" / "out"), "utterances_per_shard": 3}
    old = build(parse(ShardConfig, raw, "the test"), workers=1)
    assert old is not None
    path = root / "corpus" / "turns.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[::9]:
        row["label"] = "sad"
    new = [row | {"id": row["id"] + "b", "dialogue": row["id"]} for row in rows[:20]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:60], *rows[64:], *new]))
    shutil.copy(root / "corpus" / "turn0001.wav", root / "corpus" / "turn0101.wav")
    raw["output"] = {"folder": "out", "utterances_per_shard": 3, "update": True}
    (root / "config.yaml").write_text(yaml.safe_dump(raw))
    one = Update(root, root / "config.yaml", old.dataset_hash, "", {}, 0.0)
    shutil.copytree(root / "first", root / "undisturbed")
    start = time.monotonic()
    process = one.start(root / "undisturbed")
    assert process.wait(timeout=120) == 0, process.communicate()[1].decode()
    one.seconds = time.monotonic() - start
    one.new = check_dataset(root / "undisturbed" / "out", deep=True, workers=1).dataset_hash
    one.expected = small.contents(root / "undisturbed" / "out")
    return one


def state(out: Path) -> int:
    """How far an update has come: files of the new version, one more when it is published."""
    made = len([*(out / "v2").glob("*")]) if (out / "v2").is_dir() else -1
    return made + load_manifest(out).home.startswith("v")


def kill_and_restart(one: Update, folder: Path, moment: tuple[int, float], small) -> str:
    """Kill once `moment[0]` files are there, and a share of a moment later; then go on."""
    shutil.copytree(one.root / "first", folder)
    out, (files, share) = folder / "out", moment
    process = one.start(folder)
    while process.poll() is None and state(out) < files:
        time.sleep(0.001)
    try:
        process.wait(timeout=share * one.seconds / 40)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    found = load_manifest(out).dataset_hash
    assert found in (one.old, one.new)
    for path in out.glob("*.tmp.*"):  # of the manifest: all that a kill may leave beside the shards
        path.unlink()
    check_dataset(out, deep=True, workers=1)
    again = one.start(folder)
    errors = again.communicate(timeout=120)[1].decode()
    assert again.returncode == 0, errors
    contents = small.contents(out)
    assert contents.keys() == one.expected.keys()
    assert not [name for name in contents if contents[name] != one.expected[name]]
    return "new" if found == one.new else "old"


def moments(one: Update, count: int, seed: int) -> list[tuple[int, float]]:
    """From before anything is written to the end; every fourth in the last steps."""
    rng = np.random.default_rng(seed)
    last = len([name for name in one.expected if name.startswith("v2/")])
    return [
        (int(rng.integers(last - 5, last + 2) if n % 4 == 3 else rng.integers(-1, last)),
         float(rng.uniform()))
        for n in range(count)
    ]  # fmt: skip


def test_killed_updates_leave_the_old_or_the_new_dataset(changed, small, tmp_path) -> None:
    for number, moment in enumerate(moments(changed, 4, seed=1)[1:]):
        kill_and_restart(changed, tmp_path / str(number), moment, small)


@pytest.mark.torture
def test_thirty_killed_updates(changed, small, tmp_path) -> None:
    seen = [
        kill_and_restart(changed, tmp_path / str(number), moment, small)
        for number, moment in enumerate(moments(changed, 30, seed=30))
    ]
    print(f"killed updates: {seen.count('old')} left the old dataset, {seen.count('new')} the new")
    assert {*seen} == {"old", "new"}
