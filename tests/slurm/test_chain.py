"""submit.sh and status.sh on a real scheduler: who waits for whom, and what a failure does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
CONFIGS = ("shards.yaml", "text.yaml", "audio.yaml", "fusion.yaml")
STAGES = ("preprocess", "merge", "text", "audio", "fusion", "evaluate")


def jobs_of(printed: str) -> dict[str, int]:
    return {stage: int(job) for stage, job in re.findall(r"^(\w+): job (\d+)", printed, re.M)}


def history(repository: Path, stage: str, job: int | str) -> list[str]:
    """The lines "TIME STATE DETAIL" that the job has written of itself."""
    return (repository / f"runs/c/jobs/{stage}-{job}/history").read_text().splitlines()


def test_chain_runs_in_order_over_two_nodes(cluster, repository: Path) -> None:
    printed = cluster.call(
        *("bash", "slurm/submit.sh", *CONFIGS, "--name", "c", "--nodes", "2"),
        *("steps=15", "seconds=0.1"),
        cwd=repository,
    )
    jobs = jobs_of(printed)
    assert tuple(jobs) == STAGES
    assert f"fusion: job {jobs['fusion']}, waits for text audio" in printed
    underway = cluster.call("bash", "slurm/status.sh", "c", cwd=repository)
    assert re.search(r"evaluate +job \d+ +waiting Dependency", underway)

    cluster.wait_state(jobs["evaluate"], "COMPLETED", "FAILED", "CANCELLED", seconds=60)
    status = cluster.call("bash", "slurm/status.sh", "c", cwd=repository)
    for stage in STAGES:
        assert re.search(rf"{stage} +job {jobs[stage]} +finished", status), status
    assert "runs/c/logs" in status
    assert "tensorboard --logdir runs/c --host localhost" in status
    table = (repository / "runs/c/table.md").read_text()
    assert [line.split()[:2] for line in table.splitlines()] == [
        [f"runs/c/{stage}", "15"] for stage in ("text", "audio", "fusion")
    ]

    times = {
        stage: [line.split()[0] for line in history(repository, stage, jobs[stage])]
        for stage in STAGES[1:]
    }
    parts = [history(repository, "preprocess", f"{jobs['preprocess']}_{k}") for k in range(3)]
    assert max(part[-1].split()[0] for part in parts) <= times["merge"][0]
    assert times["merge"][-1] <= min(times["text"][0], times["audio"][0])
    assert max(times["text"][0], times["audio"][0]) < min(times["text"][-1], times["audio"][-1])
    assert max(times["text"][-1], times["audio"][-1]) <= times["fusion"][0]
    log = (repository / f"runs/c/logs/text-{jobs['text']}.log").read_text()
    assert "0: rank 0 of 2 begins" in log
    assert "1: rank 1 of 2 begins" in log


def test_failing_stage_cancels_the_rest_and_from_goes_on(cluster, repository: Path) -> None:
    submit = ("bash", "slurm/submit.sh", *CONFIGS, "--name", "c", "--tasks", "2")
    jobs = jobs_of(cluster.call(*submit, "steps=3", "fail_at=2", cwd=repository))
    for stage in ("fusion", "evaluate"):
        cluster.wait_state(jobs[stage], "CANCELLED", seconds=60)
    assert cluster.state(jobs["text"]) == "FAILED"
    assert cluster.job(jobs["text"])["Restarts"] == "0"
    status = cluster.call("bash", "slurm/status.sh", "c", cwd=repository)
    assert re.search(r"merge .* finished", status)
    assert re.search(r"text .* failed exit 1", status), status
    assert re.search(r"fusion .* cancelled (text|audio) failed", status), status
    assert re.search(r"evaluate .* cancelled", status), status

    again = jobs_of(cluster.call(*submit, "--from", "text", "steps=3", cwd=repository))
    assert tuple(again) == ("text", "audio", "fusion", "evaluate")
    cluster.wait_state(again["evaluate"], "COMPLETED", "FAILED", "CANCELLED", seconds=60)
    status = cluster.call("bash", "slurm/status.sh", "c", cwd=repository)
    assert status.count(" finished") == len(STAGES), status


def test_incomplete_set_is_not_merged_and_one_task_can_be_redone(
    cluster, repository: Path, submit: Callable[..., int]
) -> None:
    first = submit("--array=0,2", "slurm/preprocess.sbatch", "3", "shards.yaml")
    cluster.wait_for(lambda: (repository / "parts/2").exists(), "task 2", 30)
    merge = submit(f"--dependency=afterok:{first}", "slurm/merge.sbatch", "shards.yaml")
    assert cluster.finish(merge) == "FAILED"
    assert "missing: ['1']" in (repository / f"job-{merge}.log").read_text()
    redone = submit("--array=1", "slurm/preprocess.sbatch", "3", "shards.yaml")
    merge = submit(f"--dependency=afterok:{redone}", "slurm/merge.sbatch", "shards.yaml")
    assert cluster.finish(merge) == "COMPLETED"


def test_tensorboard_listens_on_localhost_only(cluster, submit: Callable[..., int]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.env["PATH"]])
    job = submit("slurm/tensorboard.sbatch", "runs", PATH=path)
    port = 30000 + job % 10000
    cluster.wait_for(lambda: listeners(port), "TensorBoard to listen", 60)
    assert listeners(port) == {"0100007F"}  # 127.0.0.1, and no IPv6 address


def listeners(port: int) -> set[str]:
    """Hexadecimal local addresses that TCP sockets listen at on `port` (Linux's proc(5))."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, number = local.split(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found
