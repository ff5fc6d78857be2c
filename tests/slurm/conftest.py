"""The scheduler of `cluster.py`, and job scripts to give it, for the tests of this folder."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster import INSTALL, WITHOUT, Cluster, missing_programs, require_programs


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that were left out for want of a scheduler, and the line that installs it."""
    left_out = [
        report.nodeid
        for report in terminalreporter.stats.get("skipped", [])
        if WITHOUT in str(report.longrepr)
    ]
    if left_out:
        terminalreporter.section("SLURM tests left out")
        terminalreporter.line(f"{WITHOUT} ({', '.join(missing_programs())}). Left out:")
        for name in left_out:
            terminalreporter.line(f"  {name}")
        terminalreporter.line(f"To run them too, on Debian or Ubuntu, as root:\n  {INSTALL}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    require_programs()
    # Not pytest's own folder: a socket's path may have 108 characters at most.
    running = Cluster(Path(tempfile.mkdtemp(prefix="emo-slurm-", dir="/tmp")))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def repository(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A folder with the job scripts as they are, and a stand-in for the programs they call.

    The stand-in (standin.py) trains nothing, but starts, meets its other ranks, checkpoints,
    resumes and ends as the real one does. All jobs of the test are ended after it.
    """
    root = tmp_path / "repository"
    shutil.copytree(Path(__file__).parents[2] / "slurm", root / "slurm")
    for program in ("launch/train.sh", "bin/emo", "bin/emo-shards"):
        path = root / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S -E "{Path(__file__).parent / "standin.py"}" '
            f'"{path.name}" "$@"\n'
        )
        path.chmod(0o755)
    for name in ("shards", "text", "audio", "fusion"):
        (root / f"{name}.yaml").touch()
    (root / "fusion.yaml").write_text("init: {text: runs/text, audio: runs/audio}\n")
    yield root
    cluster.cancel_all()


@pytest.fixture
def submit(cluster: Cluster, repository: Path) -> Callable[..., int]:
    """`submit(*sbatch options and script, **environment) -> job id`, from the repository's root."""

    def submit_job(*words: str, **environment: str) -> int:
        command = ("sbatch", "--parsable", "--output=job-%j.log", *words)
        return int(cluster.call(*command, cwd=repository, **environment))

    return submit_job
