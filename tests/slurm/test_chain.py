"""submit.sh and status.sh on a real scheduler: what a failure does. The whole: test_real.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
CONFIGS = ("shards.yaml", "text.yaml", "audio.yaml", "fusion.yaml")
STAGES = ("preprocess", "merge", "text", "audio", "fusion", "evaluate")


def jobs_of(printed: str) -> dict[str, int]:
    return {stage: int(job) for stage, job in re.findall(r"^(\w+): job (\d+)", printed, re.M)}


def refused(cluster, repository: Path, *command: str) -> str:
    """What a command that must exit 2 says."""
    path = {"PATH": f"{repository}/bin:{cluster.env['PATH']}"}
    done = subprocess.run(
        command, cwd=repository, env=cluster.env | path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_failing_stage_cancels_the_rest_and_from_goes_on(cluster, repository: Path) -> None:
    submit = ("bash", "slurm/submit.sh", *CONFIGS, "--name", "c", "--tasks", "2")
    assert "unknown key stepz" in refused(cluster, repository, *submit, "stepz=3")
    assert not cluster.call("squeue", "--noheader")  # the last stage's typo, before the first runs
    jobs = jobs_of(cluster.call(*submit, "steps=3", "fail_at=2", cwd=repository))
    assert "chain c waits or runs" in refused(cluster, repository, *submit, "steps=3")
    for stage in ("fusion", "evaluate"):
        cluster.wait_state(jobs[stage], "CANCELLED", seconds=60)
    for stage in ("text", "audio"):
        cluster.wait_state(jobs[stage], "FAILED", seconds=60)
    assert cluster.job(jobs["text"])["Restarts"] == "0"
    status = cluster.call("bash", "slurm/status.sh", "c", cwd=repository)
    assert re.search(r"merge .* finished", status)
    assert re.search(r"text .* failed exit 1.*\n +error: NaN loss at step 2", status), status
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


@pytest.mark.parametrize("option", ["", "--gres=gpu:2"])
def test_gpus_reach_every_node(cluster, repository: Path, option: str) -> None:
    """SLURM hands the test cluster's out as it does real ones. Submitted from another folder."""
    elsewhere = repository.parent / "else where"
    elsewhere.mkdir()
    (elsewhere / "my text.yaml").touch()
    (elsewhere / "my site.sh").write_text(
        f"source slurm/site.sh\nSITE_GPUS_PER_NODE=2 SITE_GPU_OPTION={option}\n"
        "SITE_CPUS_TRAIN=4\n"  # a node of the test cluster has 8, fewer than 8 a GPU
        f"SITE_RUNS='{elsewhere}/my runs'\n"
    )
    site = {"EMO_SITE": "my site.sh", "PATH": f"{repository}/bin:{cluster.env['PATH']}"}
    words = ("--parsable", "--nodes=2", "train", "gpu", "my text.yaml", f"run={elsewhere}/run")
    script = f"{repository}/slurm/sbatch.sh"
    done = subprocess.run(
        [script, *words], cwd=elsewhere, env=cluster.env | site, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert cluster.finish(int(done.stdout)) == "COMPLETED"
    log = (elsewhere / f"my runs/logs/train-{done.stdout.strip()}.log").read_text()
    for node in (0, 1):
        assert f"{node}: 2 processes, GPUs 0,1" in log


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
