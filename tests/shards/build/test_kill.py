"""`kill -9` of a whole build at random moments, then a restart: the same bytes as undisturbed."""

import os
import platform
import re
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

SHARDS = 40


@dataclass
class Job:
    """A build, run by its command line in a folder of its own; its dataset is `out` there."""

    config: Path
    begun: float  # seconds from the start of an undisturbed build to its first file
    writing: float  # seconds from there to its end
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
    """120 turns in `SHARDS` shards, built once to the end."""
    small.write_corpus(root / "corpus", turns=120)
    settings = small.settings(root / "corpus", Path("out"), **changes)
    settings["output"]["utterances_per_shard"] = 120 // SHARDS
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    one = Job(root / "config.yaml", 0.0, 0.0, {})
    start = time.monotonic()
    process = one.start(root / "undisturbed", workers=2)
    wait_for_first_file(process, root / "undisturbed" / "out")
    one.begun = time.monotonic() - start
    assert process.wait(timeout=120) == 0, process.communicate()[1].decode()
    one.writing = time.monotonic() - start - one.begun
    one.expected = small.contents(root / "undisturbed" / "out")
    return one


def wait_for_first_file(process: subprocess.Popen[bytes], out: Path) -> None:
    while process.poll() is None and not (out.is_dir() and any(out.iterdir())):
        time.sleep(0.002)


def committed(out: Path) -> int:
    return len(list(out.glob("shard-*.json")))


@dataclass
class Moment:
    """When to kill: counted from a point that the build has reached, whatever the machine's load.

    `shards` None: at `share` of the time before an undisturbed build's first file; else at `share`
    of a shard's time after so many were committed (0: after the first file of all).
    """

    shards: int | None
    share: float
    workers: int


@dataclass
class Kill:
    moment: Moment
    after: float  # seconds from the start
    shards: int  # committed at the kill
    drafts: list[str]  # left by the kill
    published: bool


def kill_and_restart(job: Job, folder: Path, moment: Moment, small) -> Kill:
    """Kill a build at `moment`; what was there; then restart and compare."""
    out = folder / "out"
    start = time.monotonic()
    process = job.start(folder, moment.workers)
    wait = job.begun
    if moment.shards is not None:
        wait_for_first_file(process, out)
        while process.poll() is None and committed(out) < moment.shards:
            time.sleep(0.002)
        wait = job.writing / SHARDS
    try:
        process.wait(timeout=moment.share * wait)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    after = time.monotonic() - start
    process.communicate()
    wait_for_group(process.pid)
    there = list(out.iterdir()) if out.exists() else []
    kill = Kill(
        moment,
        after,
        committed(out),
        [path.name.split(".tmp.")[0] for path in there if atomic.TEMPORARY.search(path.name)],
        (out / "manifest.json").exists(),
    )
    again = job.start(folder, moment.workers)
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


def moments(count: int, seed: int) -> list[Moment]:
    """Every sixth before anything is written; the others before, amid and after all shards."""
    rng = np.random.default_rng(seed)
    return [
        Moment(
            None if n % 6 == 0 else int(rng.integers(SHARDS + 1)), float(rng.uniform()), 1 + n % 2
        )
        for n in range(count)
    ]


def test_killed_builds_end_like_undisturbed_ones(small, tmp_path: Path) -> None:
    job = undisturbed(tmp_path, small, text=None)  # transformers alone takes seconds to load
    for number, moment in enumerate(moments(4, seed=3)[1:]):
        kill_and_restart(job, tmp_path / str(number), moment, small)


KILLS, PART, AMID = 60, 10, f" of {SHARDS}"
RESULTS = Path("benchmarks/results/kill-build.md")


@pytest.mark.torture
@pytest.mark.parametrize("part", range(KILLS // PART))
def test_sixty_kills(small, tmp_path: Path, part: int) -> None:
    """In parts, each of which keeps its figures; together they are `RESULTS`."""
    job = undisturbed(tmp_path, small)
    chosen = list(enumerate(moments(KILLS, seed=60), start=1))[part * PART : (part + 1) * PART]
    rows = {}
    for number, moment in chosen:
        rows[number] = row(kill_and_restart(job, tmp_path / str(number), moment, small))
        print(number, rows[number], flush=True)
    assert any(AMID in one for one in rows.values()), "no kill came while shards were written"
    old = RESULTS.read_text() if RESULTS.exists() else ""
    kept = {int(n): line for line, n in re.findall(r"^(\| (\d+) \|.*)$", old, re.MULTILINE)}
    RESULTS.write_text(report(kept | {n: f"| {n} | {cells}" for n, cells in rows.items()}))


def row(kill: Kill) -> str:
    state = f"{kill.shards}{AMID}"
    if kill.shards in (0, SHARDS):
        state = "none" if not kill.shards else "all" + ", published" * kill.published
    when = f"{kill.moment.share:.2f} of the start"
    if kill.moment.shards is not None:
        when = f"{kill.moment.shards} shards + {kill.moment.share:.2f}"
    drafts = ", ".join(kill.drafts) or "-"
    return f"{kill.after:.2f} | {when} | {kill.moment.workers} | {state} | {drafts} |"


def report(rows: dict[int, str]) -> str:
    lines = [rows[number] for number in sorted(rows)]
    amid = sum(AMID in line for line in lines)
    drafts = sum(not line.endswith("| - |") for line in lines)
    head = [
        "# Builds killed at random moments",
        "",
        f"`pytest tests/shards/test_kill.py -m torture`, {platform.machine()}, {os.cpu_count()}",
        "cores. 120 turns in 40 shards, with features and a learnt vocabulary. The whole process",
        "group gets SIGKILL, the same command is run again, and every file of the folder is",
        f"compared with those of an undisturbed build. {len(rows)} kills of {KILLS}: each ended",
        f"with identical bytes and no temporary file. {amid} came between first and last shard,",
        f"{drafts} left a draft behind. A moment is a share of the time before an undisturbed",
        "build's first file, or a number of committed shards and a share of a shard's time.",
        "",
        "| kill | after s | moment | workers | shards committed | drafts left |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"
