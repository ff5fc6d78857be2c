"""Cores of a training job: by its GPUs, and not fewer than its processes."""

import shlex

import pytest

from tests.slurm.test_submit import folder, program, run  # noqa: F401


@pytest.fixture
def site(folder):  # noqa: F811
    """`site(settings)`: a site with four GPUs; the configurations have 7 workers and 3."""
    text = 'case "$*" in *audio*) n=7 ;; *) n=3 ;; esac'
    program(folder, "emo", text, r'printf "data:\n  shards: s\n  workers: $n\n"')

    def submit(settings, *words):
        (folder / "mine.sh").write_text(f"source slurm/site.sh\nSITE_GPUS_PER_NODE=4 {settings}\n")
        return run(folder, *words, EMO_SITE="mine.sh")

    return submit


TEXT = ("slurm/sbatch.sh", "--dry-run", "train", "gpu", "text.yaml", "run=r")
CHAIN = ("slurm/submit.sh", "shards.yaml", "text.yaml", "audio.yaml", "--dry-run")


def test_a_training_gets_eight_cores_a_gpu(site):
    said = site("", *TEXT)
    assert "--cpus-per-task=32" in shlex.split(said.stdout), said.stderr
    evaluate = site("", "slurm/sbatch.sh", "--dry-run", "evaluate", "r")
    assert "--cpus-per-task=4" in shlex.split(evaluate.stdout), evaluate.stderr
    assert "--cpus-per-task=4" in shlex.split(site("SITE_GPUS_PER_NODE=0", *TEXT[:3], "cpu",
                                                   *TEXT[4:]).stdout)  # fmt: skip


def test_fewer_cores_than_processes_are_refused(site):
    said = site("SITE_CPUS_TRAIN=15", *TEXT)
    assert said.returncode == 2
    assert ("4 ranks with data.workers=3 are 16 processes a node: ask for as many cores, or set "
            "data.workers=2") in said.stderr  # fmt: skip
    assert site("SITE_CPUS_TRAIN=16", *TEXT).returncode == 0
    assert site("SITE_CPUS_TRAIN=15 SITE_PROCESSES_PER_NODE=2", *TEXT).returncode == 0
    assert site("SITE_CPUS_TRAIN=1 SITE_GPUS_PER_NODE=0", *TEXT[:3], "cpu",
                *TEXT[4:]).returncode == 0  # fmt: skip


def test_a_chain_needs_the_cores_of_its_greediest_training(site):
    assert site("SITE_CPUS_TRAIN=32", *CHAIN).returncode == 0
    said = site("SITE_CPUS_TRAIN=31", *CHAIN)
    assert said.returncode == 2
    assert "data.workers=7 are 32 processes" in said.stderr
