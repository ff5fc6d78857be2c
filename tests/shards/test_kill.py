"""`kill -9` of a whole build at random moments, then a restart: the same bytes as undisturbed."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from shards import atomic


@dataclass
class Job:
    """A build, run by its command line in a folder of its own; its dataset is `out` there."""

    config: Path
    seconds: float  # an undisturbed build
    expected: dict[str, bytes]

    def start(self, folder: Path, workers: int) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "shards", "build", str(self.config), f"workers={workers}"]
        environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def undisturbed(root: Path, small, **changes: object) -> Job:
    """120 turns in 40 shards, built once to the end."""
    small.write_corpus(root / "corpus", turns=120)
    settings = small.settings(root / "corpus", Path("out"), **changes)
    settings["output"]["utterances_per_shard"] = 3
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    one = Job(root / "config.yaml", 0.0, {})
    began = time.monotonic()
    process = one.start(root / "undisturbed", workers=2)
    assert process.wait(timeout=120) == 0, process.communicate()[1].decode()
    one.seconds = time.monotonic() - began
    one.expected = small.contents(root / "undisturbed" / "out")
    return one


@dataclass
class Kill:
    after: float  # seconds
    workers: int
    shards: int  # committed at the kill
    drafts: list[str]  # left by the kill
    published: bool


def kill_and_restart(job: Job, folder: Path, moment: float, workers: int, small) -> Kill:
    """Kill a build `moment` seconds after its start; what was there; then restart and compare."""
    out = folder / "out"
    process = job.start(folder, workers)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for_group(process.pid)
    there = list(out.iterdir()) if out.exists() else []
    kill = Kill(
        moment,
        workers,
        sum(path.name.startswith("shard-") and path.suffix == ".json" for path in there),
        [path.name.split(".tmp.")[0] for path in there if atomic.TEMPORARY.search(path.name)],
        (out / "manifest.json").exists(),
    )
    again = job.start(folder, workers)
    errors = again.communicate(timeout=120)[1].decode()
    assert again.returncode == 0, errors
    found = small.contents(out)
    assert found.keys() == job.expected.keys()
    assert not [name for name in found if found[name] != job.expected[name]]
    return kill


def wait_for_group(group: int) -> None:
    """Until no process of the group is left that could still write."""
    deadline = time.monotonic() + 20
    while any(atomic.alive(pid) for pid in members(group)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def members(group: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[2]) == group:
                yield int(path.parent.name)
        except (OSError, IndexError):
            continue


def moments(job: Job, count: int, seed: int) -> Iterator[tuple[float, int]]:
    """Seconds after the start and numbers of workers; moments before the first write are few."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        share = rng.uniform(0.1, 0.4) if number % 4 == 0 else rng.uniform(0.4, 1.0)
        yield float(share * job.seconds), 1 + number % 2


def test_killed_builds_end_like_undisturbed_ones(small, tmp_path: Path) -> None:
    job = undisturbed(tmp_path, small, text=None)  # transformers alone takes seconds to load
    for number, (moment, workers) in enumerate(moments(job, 3, seed=3)):
        kill_and_restart(job, tmp_path / str(number), moment, workers, small)


@pytest.mark.torture
def test_sixty_kills(small, tmp_path: Path) -> None:
    job = undisturbed(tmp_path, small)
    kills = [
        kill_and_restart(job, tmp_path / str(number), moment, workers, small)
        for number, (moment, workers) in enumerate(moments(job, 60, seed=60))
    ]
    amid = [kill for kill in kills if 0 < kill.shards < 40]
    assert amid, "no kill came while shards were written"
    Path("benchmarks/results/kill-build.md").write_text(report(job, kills))


def report(job: Job, kills: list[Kill]) -> str:
    lines = [
        "# Builds killed at random moments",
        "",
        f"`pytest tests/shards/test_kill.py -m torture`; {platform.machine()}, {os.cpu_count()}",
        "cores. 120 turns in 40 shards, with features and a learnt vocabulary. The whole process",
        "group gets SIGKILL, the same command is run again, and every file of the folder is",
        f"compared with those of an undisturbed build, which took {job.seconds:.1f} s.",
        f"All {len(kills)} ended with identical bytes and no temporary file.",
        "",
        "| kill | after s | workers | shards committed | drafts left | published |",
        "|---|---|---|---|---|---|",
    ]
    for number, kill in enumerate(kills):
        lines.append(
            f"| {number + 1} | {kill.after:.2f} | {kill.workers} | {kill.shards} | "
            f"{', '.join(kill.drafts) or '-'} | {'yes' if kill.published else 'no'} |"
        )
    amid = sum(0 < kill.shards < 40 for kill in kills)
    drafts = sum(bool(kill.drafts) for kill in kills)
    lines += ["", f"{amid} kills came between the first and the last shard, {drafts} left a draft."]
    return "\n".join(lines) + "\n"
