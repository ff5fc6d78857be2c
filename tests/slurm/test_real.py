"""The programs themselves on a real scheduler: a small sample corpus, small models.

What must come out is known: the same configurations run without a scheduler (`alone`), where two
processes on one machine are what one process on each of two nodes is here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import RUNS, STAGES, Lab

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def lab(cluster, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(cluster, tmp_path_factory.mktemp("lab"))


@pytest.fixture(autouse=True)
def no_job_stays(cluster) -> Iterator[None]:
    yield
    cluster.cancel_all()


@pytest.fixture(scope="module")
def chain(cluster, lab: Lab) -> dict[str, int]:
    """The whole chain, run by one command: the jobs of its stages."""
    configs = [lab.config(name) for name in ("shards", *RUNS)]
    printed = lab.call("bash", "slurm/submit.sh", *configs, "--name", "c", "--nodes", "2")
    jobs = {stage: int(job) for stage, job in re.findall(r"^(\w+): job (\d+)", printed, re.M)}
    assert tuple(jobs) == STAGES
    assert f"fusion: job {jobs['fusion']}, waits for text audio" in printed
    underway = lab.call("bash", "slurm/status.sh", "c")
    assert re.search(r"evaluate +job \d+ +waiting Dependency", underway)
    cluster.wait_state(jobs["evaluate"], "COMPLETED", "FAILED", "CANCELLED", seconds=600)
    return jobs


@pytest.fixture(scope="module")
def alone(lab: Lab, chain: dict[str, int]) -> Path:
    """The folder of the same three trainings, run without the scheduler on the same shards."""
    folder = lab.folder / "alone"
    for name in RUNS:
        branches = [f"init.{branch}={folder / branch}" for branch in RUNS[:2] if name == "fusion"]
        train = ("launch/train.sh", "cpu", lab.config(name), f"run={folder / name}", *branches)
        done = lab.command(*train, EMO_PROCESSES="2")
        assert done.returncode == 0, done.stderr
    return folder


def weights(run: Path) -> bytes:
    """The weights of a run's last checkpoint."""
    return (
        max((run / "checkpoints").glob("step-????????"), key=str)
        .joinpath("weights.safetensors")
        .read_bytes()
    )


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())["parts"]


def scores(run: Path) -> object:
    """What `metrics` must equal: one process adds up in another order than two do."""
    return close(metrics(run))


def close(value: object) -> object:
    if isinstance(value, dict):
        return {name: close(one) for name, one in value.items()}
    if isinstance(value, list):
        return [close(one) for one in value]
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


def test_chain_ends_in_the_table_and_in_the_metrics_of_runs_without_it(
    lab: Lab, chain: dict[str, int], alone: Path
) -> None:
    status = lab.call("bash", "slurm/status.sh", "c")
    for stage in STAGES:
        assert re.search(rf"{stage} +job {chain[stage]} +finished", status), status
    table = (lab.runs / "c/table.md").read_text()
    for name in RUNS:
        assert f"| {name} " in table
        assert metrics(lab.runs / "c" / name) == scores(alone / name)
        assert weights(lab.runs / "c" / name) == weights(alone / name)
    log = (lab.runs / f"c/logs/text-{chain['text']}.log").read_text()
    assert "0: strategy cpu · 2 processes" in log
    assert "running on n[1-2]" in log
    assert f"tensorboard --logdir {lab.runs}/c --host localhost" in status


def test_chain_runs_in_order(lab: Lab, chain: dict[str, int]) -> None:
    def times(stage: str, task: str = "") -> tuple[str, str]:
        """When a stage began and ended; ISO times sort as they are."""
        path = lab.runs / f"c/jobs/{stage}-{chain[stage]}{task}/history"
        lines = path.read_text().splitlines()
        return lines[0].split()[0], lines[-1].split()[0]

    begun, ended = {}, {}
    for stage in STAGES[1:]:
        begun[stage], ended[stage] = times(stage)
    assert max(times("preprocess", f"_{k}")[1] for k in range(3)) <= begun["merge"]
    assert ended["merge"] <= min(begun["text"], begun["audio"])
    assert max(begun["text"], begun["audio"]) < min(ended["text"], ended["audio"])  # side by side
    assert max(ended["text"], ended["audio"]) <= begun["fusion"]
    assert ended["fusion"] <= begun["evaluate"]


def identity(sidecar: Path) -> list[tuple[int, int]]:
    """Inode and time of change of a shard's two files."""
    files = (sidecar, sidecar.with_suffix(".tar"))
    return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]


def test_stopped_array_task_is_redone_where_it_was(cluster, lab: Lab, chain: dict) -> None:
    """One of three tasks is stopped amid its shards; the merge waits for a second array."""
    folder = lab.folder / "again"
    own = (f"output.folder={folder}", "output.utterances_per_shard=4", "workers=1")
    array = ("--array=0-2", "slurm/preprocess.sbatch", "3", lab.config("shards"), *own)
    merge = ("slurm/merge.sbatch", lab.config("shards"), "tasks=3", *own[:2])

    def made(task: int) -> list[Path]:
        """The committed shards of one task: they have a sidecar."""
        found = sorted(folder.glob("shard-*.json"))
        return [path for path in found if int(path.stem[-5:]) % 3 == task]

    first = lab.submit(*array)
    cluster.wait_for(lambda: made(1), "task 1's first shard", 240, every=0.01)
    lab.call("scancel", "--signal=KILL", f"{first}_1")
    lab.wait_all("the array")
    assert made(0)
    assert 0 < len(made(1)) < len(made(0)) - 1
    before = {path: identity(path) for k in range(3) for path in made(k)}

    refused = lab.submit(*merge)
    assert cluster.finish(refused) == "FAILED"
    assert "run these of the 3 array tasks again: task=1" in lab.log(refused)

    again = lab.submit(*array)
    merged = lab.submit(f"--dependency=afterok:{again}", *merge)
    assert cluster.finish(merged, seconds=90) == "COMPLETED"
    assert {path: identity(path) for path in before} == before
    total = len(made(0) + made(1) + made(2))
    assert f"{total - len(before)} of {total} shards are not there" in lab.log(refused)


def test_preempted_in_every_way_ends_with_the_same_weights(
    cluster, lab: Lab, chain: dict, alone: Path
) -> None:
    stops: list[Callable[[int], object]] = [
        lambda job: lab.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1"),
        lambda job: lab.call("scontrol", "requeue", job),
        lambda job: lab.call("scancel", "--signal=USR1", "--batch", job),
    ]
    job = lab.train("cpu", "preempted")
    lab.wait_log(job, "epoch 1/")
    for number, stop in enumerate(stops, start=1):
        stop(job)
        lab.wait_log(job, "resumed at step", number)
    assert cluster.finish(job, seconds=300) == "COMPLETED", lab.log(job)
    assert cluster.job(job)["Restarts"] == str(len(stops))
    assert f"(start {len(stops) + 1})" in lab.log(job)
    assert lab.log(job).count("preempted at step") == len(stops)  # it saved each time
    assert weights(lab.runs / "preempted") == weights(alone / "text")
    assert metrics(lab.runs / "preempted") == scores(alone / "text")


@pytest.mark.torture
def test_real_time_limit_ends_with_the_same_weights(
    cluster, lab: Lab, chain: dict, alone: Path
) -> None:
    """One minute is the shortest limit; the signal may come up to a minute early."""
    run = lab.runs / "limited"
    job = lab.train("cpu", "limited", options=("--time=1", "--signal=B:USR1@1"))
    lab.wait_log(job, "epoch 1/")
    with paused(ranks(run)):  # so that no machine is too fast for the limit
        lab.wait_log(job, "USR1 received")
    lab.wait_log(job, "resumed at step")
    assert cluster.finish(job, seconds=600) == "COMPLETED", lab.log(job)
    assert int(cluster.job(job)["Restarts"]) > 0
    assert "requeued saved" in lab.log(job)
    assert weights(run) == weights(alone / "text")


def test_node_dies_under_zero2_and_a_second_writer_is_refused(
    cluster, lab: Lab, chain: dict
) -> None:
    job = lab.train("zero2", "zero2", "train.epochs=3", "train.global_batch=8")
    run = lab.runs / "zero2"
    saved = run / "checkpoints/step-00000010"
    lab.wait_log(job, "epoch 1/")  # DeepSpeed compiles at its first use
    cluster.wait_for(saved.exists, "a checkpoint")
    with paused(ranks(run)):  # it is amid its training however long the other takes to start
        second = lab.command("emo", "train", lab.config("text"), f"run={run}", "resume=auto")
        cluster.kill_node("n2")
    began = time.monotonic()
    try:
        cluster.wait_state(job, "PENDING", seconds=90)
        cluster.wait_for(lambda: not writers(run), "its processes to end", 30)
        print(f"requeued and ended on both nodes {time.monotonic() - began:.0f} s after n2 died")
        lab.wait_log(job, "resumed at step")
        assert cluster.finish(job, seconds=300) == "COMPLETED", lab.log(job)
    finally:
        cluster.start_node("n2")
    assert second.returncode == 2
    assert f"{run} is being written by another process" in second.stderr
    assert "running on n[1,3] (start 2)" in lab.log(job)
    assert lab.log(job).count("strategy zero2 · 2 processes") == 2
    assert metrics(run)["test"]["n"] > 0


@contextlib.contextmanager
def paused(processes: list[int]) -> Iterator[None]:
    """Processes stand still for the time of a `with` block."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def writers(run: Path) -> dict[int, list[bytes]]:
    """Processes that were started with the run folder among their arguments, and these."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"run={run}".encode() in words:
            found[int(entry.name)] = words
    return found


def ranks(run: Path) -> list[int]:
    """The Python processes among the writers: ranks and their launchers, no scripts."""
    return [process for process, words in writers(run).items() if b"-m" in words]


def test_crossvalidation_is_an_array_over_folds(cluster, lab: Lab, chain: dict) -> None:
    run = lab.runs / "folds"
    brief = ("train.epochs=1", "train.global_batch=16", f"run={run}")
    protocol = "data.view.protocol=leave_one_session_out"

    folds = ("--array=0-1", "slurm/crossval.sbatch", "cpu", lab.config("text"), *brief, protocol)

    job = lab.submit(*folds)
    lab.wait_all("both folds")
    for k in range(2):
        history = (lab.runs / f"jobs/crossval-{job}_{k}/history").read_text()
        assert history.splitlines()[-1].endswith(f"finished fold {k}")
    assert len(list(run.glob("fold-*/metrics.json"))) == 2
