"""Limits on restarts, killed steps and dead nodes, on a real scheduler with a stand-in training.

Preemption, and a node that dies under the training itself, are in test_real.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
TRAIN = ("--nodes=2", "slurm/train.sbatch", "cpu", "text.yaml", "run=run")


def result(steps: int) -> str:
    """What an uninterrupted stand-in training of `steps` steps writes: see standin.py."""
    value = 1
    for step in range(1, steps + 1):
        value = (value * 6364136223846793005 + step) % 2**64
    return f"{steps} {value}"


def log_of(repository: Path, job: int) -> str:
    path = repository / f"job-{job}.log"
    return path.read_text() if path.exists() else ""


def wait_until_trains(cluster, repository: Path, job: int) -> None:
    cluster.wait_for(
        lambda: "rank 1 of 2 begins" in log_of(repository, job), f"job {job} to train", 30
    )


def history(repository: Path, job: int) -> list[str]:
    return (repository / f"runs/jobs/train-{job}/history").read_text().splitlines()


@pytest.mark.parametrize("signal", [("TERM",), ("USR1", "--batch")], ids=["term", "usr1"])
def test_stopped_before_it_could_save_is_no_error(
    cluster, repository: Path, submit: Callable[..., int], signal: tuple[str, ...]
) -> None:
    job = submit(*TRAIN, "steps=3", "startup=1")
    cluster.wait_for(lambda: log_of(repository, job).count("starting") == 2, "the start", 30)
    cluster.call("scancel", f"--signal={signal[0]}", *signal[1:], str(job))
    assert cluster.finish(job) == "COMPLETED"
    assert cluster.job(job)["Restarts"] == "1"
    assert "requeued a step was killed (exit 143)" in "\n".join(history(repository, job))


def test_real_error_is_not_requeued(cluster, repository: Path, submit: Callable[..., int]) -> None:
    job = submit(*TRAIN, "fail_at=3")
    assert cluster.finish(job) == "FAILED"
    assert cluster.job(job)["Restarts"] == "0"
    assert cluster.job(job)["ExitCode"] == "1:0"
    assert "failed exit 1" in history(repository, job)[-1]
    assert "NaN loss at step 3" in log_of(repository, job)


def test_lost_ranks_are_requeued_until_they_make_no_progress(
    cluster, repository: Path, submit: Callable[..., int]
) -> None:
    """Exit 76 on every node: a rank was killed, or did not come; no node and no step is dead."""
    job = submit(*TRAIN, "steps=20", "every=2", "fail_at=5", "code=76", "lost=76", "seconds=0.02")
    assert cluster.finish(job, seconds=120) == "FAILED"
    assert cluster.job(job)["Restarts"] == "3"
    said = history(repository, job)
    assert "requeued a rank was killed, lost or late (exit 76), at step 4" in said[1]
    assert "3 starts in a row made no progress (step 4" in said[-1]


@pytest.mark.parametrize("late", [0, 0.5], ids=["first", "later"])
def test_a_real_error_counts_more_than_the_ranks_that_miss_its_rank(
    cluster, repository: Path, submit: Callable[..., int], late: float
) -> None:
    job = submit(*TRAIN, "fail_at=3", "code=2", "lost=76", f"late={late}")
    assert cluster.finish(job) == "FAILED"
    assert cluster.job(job)["Restarts"] == "0"
    assert "failed exit 2" in history(repository, job)[-1]


def test_cancelled_job_stays_cancelled(
    cluster, repository: Path, submit: Callable[..., int]
) -> None:
    job = submit(*TRAIN, "steps=300")
    wait_until_trains(cluster, repository, job)
    cluster.call("scancel", str(job))
    cluster.wait_for(cluster.idle, "the nodes to be free", 30)
    assert cluster.state(job) == "CANCELLED"
    assert (repository / "run/checkpoints").exists()  # it had the time to save
    assert "cancelled" in history(repository, job)[-1]


def test_killed_step_is_requeued_until_it_makes_no_progress(
    cluster, repository: Path, submit: Callable[..., int]
) -> None:
    # Checkpoints at 4, 8, 12; killed at 13 each time: three starts in a row bring nothing.
    job = submit(*TRAIN, "steps=20", "every=4", "kill_at=13", "seconds=0.02")
    assert cluster.finish(job, seconds=120) == "FAILED"
    assert cluster.job(job)["Restarts"] == "3"
    assert "3 starts in a row made no progress (step 12" in history(repository, job)[-1]


def test_restarts_are_capped(cluster, repository: Path, submit: Callable[..., int]) -> None:
    (repository / "site.sh").write_text("source slurm/site.sh\nSITE_MAX_RESTARTS=1\n")
    job = submit(*TRAIN, "steps=300", EMO_SITE="site.sh")
    for start in (1, 2):
        cluster.wait_for(
            lambda start=start: log_of(repository, job).count("rank 1 of 2 begins") == start,
            f"start {start}",
            30,
        )
        cluster.call("scancel", "--signal=TERM", str(job))
        if start == 1:
            cluster.wait_state(job, "PENDING")
            cluster.start_now(job)
    assert cluster.finish(job) == "FAILED"
    assert "gave up after 1 restarts" in history(repository, job)[-1]


# n1 holds the batch scripts, so that the scheduler alone decides; n2 leaves them to find out.
@pytest.mark.torture
@pytest.mark.parametrize("node", ["n1", "n2"])
def test_dead_node_ends_the_job_on_all_and_requeues(
    cluster, repository: Path, submit: Callable[..., int], node: str
) -> None:
    """Two trainings at once: one whose survivors hang, one whose survivors raise an error."""
    jobs = {
        name: submit(
            *TRAIN[:-1], f"run={name}", f"lost={lost}", "steps=100", "every=5", "seconds=0.1"
        )
        for name, lost in (("hang", "hang"), ("exit", "1"))
    }
    for job in jobs.values():
        wait_until_trains(cluster, repository, job)
    cluster.wait_for(lambda: (repository / "exit/checkpoints/step-5").exists(), "a checkpoint", 30)
    cluster.wait_for(lambda: (repository / "hang/checkpoints/step-5").exists(), "a checkpoint", 30)
    cluster.kill_node(node)
    try:
        for job in jobs.values():
            cluster.wait_state(job, "PENDING", seconds=90)
        for lost, job in jobs.items():
            assert cluster.finish(job, seconds=90) == "COMPLETED"
            assert cluster.job(job)["Restarts"] == "1"
            assert (repository / lost / "result").read_text() == result(100)
    finally:
        cluster.start_node(node)
