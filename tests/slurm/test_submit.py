"""What the scripts print and refuse without a scheduler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGS = ("shards.yaml", "text.yaml", "audio.yaml", "fusion.yaml")
FUSION = "init: {text: runs/text, audio: runs/audio}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scripts, four configurations, an `emo` that finds nothing wrong, and nothing else."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    for name in CONFIGS:
        (tmp_path / name).write_text(FUSION if name == "fusion.yaml" else "")
    program(tmp_path, "emo", "exit 0")
    return tmp_path


def program(folder: Path, name: str, *lines: str) -> None:
    """A shell script in `folder`/bin, which is first in the PATH of `run`."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (folder / "bin" / name).chmod(0o755)


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "EMO_SITE"}
    kept["PATH"] = f"{folder / 'bin'}:{kept['PATH']}"
    return subprocess.run(
        ["bash", *words], cwd=folder, env=kept | environment, capture_output=True, text=True
    )


def dry_run(folder: Path, *words: str, **environment: str) -> list[list[str]]:
    """The commands that submit.sh would run, as words."""
    done = run(folder, "slurm/submit.sh", *CONFIGS, *words, "--dry-run", **environment)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_dry_run_prints_every_command_and_submits_nothing(folder: Path) -> None:
    commands = dry_run(folder, "--nodes", "2", "--tasks", "5", "--name", "c", "train.epochs=2")
    assert all(command[:2] == ["sbatch", "--parsable"] for command in commands)
    names = [next(w for w in c if w.startswith("--job-name")) for c in commands]
    stages = ("preprocess", "merge", "text", "audio", "fusion", "evaluate")
    assert names == [f"--job-name=c-{stage}" for stage in stages]
    preprocess, merge, text, audio, fusion, evaluate = commands
    assert "--array=0-4" in preprocess
    assert preprocess[-3:] == ["slurm/preprocess.sbatch", "5", "shards.yaml"]
    assert "--dependency=afterok:PREPROCESS_ID" in merge
    assert {"--dependency=afterok:MERGE_ID", "--nodes=2"} <= {*text} & {*audio}
    assert "--dependency=afterok:TEXT_ID:AUDIO_ID" in fusion
    assert "--dependency=afterok:TEXT_ID:AUDIO_ID:FUSION_ID" in evaluate
    start = text.index("slurm/train.sbatch")
    assert text[start + 1 :] == ["cpu", "text.yaml", "run=runs/c/text", "train.epochs=2"]
    for command in commands:
        assert ("--kill-on-invalid-dep=yes" in command) == (command is not preprocess)
        assert {"--requeue", "--open-mode=append", "--signal=B:USR1@120"} <= {*command}
    assert not (folder / "runs").exists()


def test_from_leaves_out_what_is_before_it(folder: Path) -> None:
    audio, fusion, evaluate = dry_run(folder, "--from", "audio")
    assert not any(word.startswith("--dependency") for word in audio)
    assert "--dependency=afterok:AUDIO_ID" in fusion
    assert "--dependency=afterok:AUDIO_ID:FUSION_ID" in evaluate


def test_site_file_decides_where_jobs_go(folder: Path) -> None:
    (folder / "mine.sh").write_text(
        "source slurm/site.sh\nSITE_PARTITION=gpu SITE_ACCOUNT=lab SITE_GPUS_PER_NODE=4\n"
        "SITE_TIME_TRAIN=12:00:00 SITE_SBATCH=(--qos=long) SITE_RUNS=/scratch/runs SITE_SIGNAL=\n"
    )
    commands = dry_run(folder, "--name", "c", EMO_SITE="mine.sh")
    assert all({"--partition=gpu", "--account=lab", "--qos=long"} <= {*c} for c in commands)
    text = commands[2]
    assert {"--gpus-per-node=4", "--time=12:00:00", "run=/scratch/runs/c/text", "gpu"} <= {*text}
    assert not any(word.startswith(("--gpus", "--time")) for word in commands[0])
    assert not any(word.startswith("--signal") for word in text)  # the script's own holds


def test_one_script_is_submitted_with_what_the_site_says(folder: Path) -> None:
    (folder / "mine.sh").write_text(
        "source slurm/site.sh\nSITE_PARTITION=gpu SITE_GPUS_PER_NODE=4\n"
        "SITE_GPU_OPTION=--gres=gpu:a100:4 SITE_TIME_TRAIN=12:00:00\n"
    )

    def command(*words: str) -> list[str]:
        done = run(folder, "slurm/sbatch.sh", "--dry-run", *words, EMO_SITE="mine.sh")
        assert done.returncode == 0, done.stderr
        return shlex.split(done.stdout)

    train = command("--nodes=2", "train", "gpu", "text.yaml", "run=r")
    assert {"--partition=gpu", "--gres=gpu:a100:4", "--time=12:00:00", "--nodes=2"} <= {*train}
    assert train[-4:] == ["slurm/train.sbatch", "gpu", "text.yaml", "run=r"]
    watch = command("slurm/tensorboard.sbatch")
    assert "--partition=gpu" in watch
    assert not any(word.startswith(("--gres", "--time")) for word in watch)  # the script's hours
    assert run(folder, "slurm/sbatch.sh", "--nodes", "2", "train").returncode == 2
    assert not (folder / "runs").exists()


def test_names_count_from_where_the_user_stands(folder: Path) -> None:
    """Files with spaces, in another folder; jobs run in the repository's root."""
    there = folder / "my own"
    there.mkdir()
    for name in CONFIGS:
        shutil.copy(folder / name, there / f"my {name}")
    done = subprocess.run(
        ["bash", "../slurm/submit.sh", "--dry-run", "--name", "c", *(f"my {n}" for n in CONFIGS)],
        cwd=there,
        env=os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    preprocess, _, text, *_ = (shlex.split(line) for line in done.stdout.splitlines())
    assert preprocess[-1] == f"{there}/my shards.yaml"
    assert f"{there}/my text.yaml" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shards.yaml",), "configurations are needed: of the shards, and of one training"),
        (("shards.yaml", "fusion.yaml", "text.yaml"), "fusion.yaml starts from other trainings"),
        (("shards.yaml", "text.yaml", "text.yaml"), "another stage is called text already"),
        (("shards.yaml", "shards.yaml", "merge.yaml"), "merge.yaml: no such file"),
        (("shards.yaml", "text.yaml", "audio.yaml", "lost.yaml"), "lost.yaml: no such file"),
        ((*CONFIGS, "--from", "train"), "--from train: not one of preprocess merge"),
        ((*CONFIGS, "--nodes", "0"), "--nodes 0: not a positive number"),
        ((*CONFIGS, "--strategy", "ddp"), "strategy ddp: not one of cpu gpu"),
        ((*CONFIGS, "--strategy", "gpu"), "strategy gpu needs GPUs: set SITE_GPUS_PER_NODE"),
        ((*CONFIGS, "--node", "2"), "unknown option --node"),
        ((*CONFIGS, "--tasks"), "--tasks needs a value"),
        ((*CONFIGS, "--name", "a b"), "--name a b: letters"),
        ((*CONFIGS, "--name", ".."), "--name ..: letters"),
    ],
)
def test_wrong_arguments_are_named(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = run(folder, "slurm/submit.sh", "--dry-run", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("branch", ["text", "audio"])
def test_a_chain_of_one_training(folder: Path, branch: str) -> None:
    words = ("slurm/submit.sh", "shards.yaml", f"{branch}.yaml", "--name", "c", "--dry-run")
    done = run(folder, *words, "train.epochs=2")
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert len(commands) == 4
    train, evaluate = commands[2:]
    start = train.index("slurm/train.sbatch")
    assert train[start + 2 :] == [f"{branch}.yaml", f"run=runs/c/{branch}", "train.epochs=2"]
    assert f"--dependency=afterok:{branch.upper()}_ID" in evaluate
    assert evaluate[-2:] == ["slurm/evaluate.sbatch", f"runs/c/{branch}"]


def test_trainings_are_named_like_their_files_and_a_fusion_waits_for_those_before(
    folder: Path,
) -> None:
    for name in ("audio-wide.yaml", "bilstm.yml"):
        (folder / name).touch()
    (folder / "both.yaml").write_text(FUSION)
    files = ("text.yaml", "audio-wide.yaml", "bilstm.yml", "both.yaml")
    done = run(folder, "slurm/submit.sh", "shards.yaml", *files, "--name", "c", "--dry-run")
    assert done.returncode == 0, done.stderr
    *_, text, wide, bilstm, both, evaluate = (
        shlex.split(line) for line in done.stdout.splitlines()
    )
    for command in (text, wide, bilstm):
        assert "--dependency=afterok:MERGE_ID" in command
        assert not any(word.startswith("init.") for word in command)
    assert "--dependency=afterok:TEXT_ID:AUDIO-WIDE_ID:BILSTM_ID" in both
    assert both[-3:] == ["both.yaml", "run=runs/c/both", "init.text=runs/c/text"]
    assert evaluate[-4:] == [f"runs/c/{n}" for n in ("text", "audio-wide", "bilstm", "both")]


def test_configurations_are_checked_before_anything_is_submitted_or_shown(folder: Path) -> None:
    """What `emo config` is asked, and that its error ends the script."""
    program(
        folder,
        "emo",
        'echo "$@" >>asked',
        'case "$*" in *epoch=*) echo "error: epoch" >&2; exit 2;; esac',
    )
    program(folder, "sbatch", "touch submitted")
    one = ("slurm/sbatch.sh", "train", "cpu", "text.yaml", "run=r", "train.epoch=3")
    fold = ("slurm/sbatch.sh", "crossval", "cpu", "text.yaml", "train.epoch=3")
    chain = ("slurm/submit.sh", *CONFIGS, "--name", "c", "train.epoch=3")
    for words in (one, fold, chain, (*chain, "--dry-run"), (one[0], "--dry-run", *one[1:])):
        done = run(folder, *words)
        assert done.returncode == 2
        assert "nothing is submitted:\nerror: epoch" in done.stderr
        assert not done.stdout
    assert not (folder / "submitted").exists()
    asked = (folder / "asked").read_text().splitlines()
    assert "config text.yaml run=r train.epoch=3" in asked
    inits = "init.text=runs/c/text init.audio=runs/c/audio"
    assert f"config fusion.yaml run=runs/c/fusion {inits} train.epoch=3" in asked
    well = run(folder, *fold[:-1], "fold=1", "train.epochs=3")
    assert well.returncode == 0, well.stderr
    assert (folder / "submitted").exists()
    assert (folder / "asked").read_text().splitlines()[-1] == "config text.yaml train.epochs=3"


def test_without_a_scheduler_the_error_says_so(folder: Path) -> None:
    """A PATH with the tools that the scripts use, and no sbatch."""
    tools = ("bash", "basename", "dirname", "realpath", "grep", "sed", "cat")
    for tool in tools:
        (folder / "bin" / tool).symlink_to(str(shutil.which(tool)))
    for words in (
        ("slurm/sbatch.sh", "evaluate", "runs/a"),
        ("slurm/submit.sh", *CONFIGS),
    ):
        done = subprocess.run(
            ["bash", *words], cwd=folder, env={"PATH": str(folder / "bin")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"{words[0]}: sbatch is not on this machine; submit from a login node" in done.stderr
        assert "command not found" not in done.stderr
    assert not (folder / "runs").exists()


def test_gpus_may_be_asked_for_in_the_options_of_one_script(folder: Path) -> None:
    words = ("train", "gpu", "text.yaml", "run=r")
    refused = run(folder, "slurm/sbatch.sh", "--dry-run", *words)
    assert refused.returncode == 2
    assert "strategy gpu needs GPUs: set SITE_GPUS_PER_NODE in slurm/site.sh" in refused.stderr
    assert run(folder, "slurm/sbatch.sh", "--dry-run", "--gpus-per-node=2", *words).returncode == 0


def test_the_job_in_which_it_is_called_leaves_no_trace_in_ours(folder: Path) -> None:
    """An interactive job's memory and binding would be orders to the srun of ours."""
    program(folder, "sbatch", "env >submitted")
    outside = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_QOS": "long"}
    inside = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "2000", "SLURM_CPU_BIND": "cores"}
    done = run(folder, "slurm/sbatch.sh", "evaluate", "runs/a", **outside, **inside)
    assert done.returncode == 0, done.stderr
    seen = dict(
        line.split("=", 1)
        for line in (folder / "submitted").read_text().splitlines()
        if "=" in line
    )
    assert outside.items() <= seen.items()
    assert not inside.keys() & seen.keys()


def test_missing_site_file_is_named(folder: Path) -> None:
    done = run(folder, "slurm/submit.sh", *CONFIGS, "--dry-run", EMO_SITE="lost.sh")
    assert done.returncode == 2
    assert "EMO_SITE=lost.sh: no such file" in done.stderr


def test_status_of_an_unknown_chain(folder: Path) -> None:
    done = run(folder, "slurm/status.sh", "nothing")
    assert done.returncode == 2
    assert "no chain nothing in runs" in done.stderr
    assert "no chain below runs" in run(folder, "slurm/status.sh").stdout


def test_help_is_no_chain(folder: Path) -> None:
    for script in ("status.sh", "submit.sh", "sbatch.sh"):
        done = run(folder, f"slurm/{script}", "--help")
        assert done.returncode == 0
        assert f"usage: slurm/{script}" in done.stdout
    assert run(folder, "slurm/status.sh", "--all").returncode == 2


@pytest.fixture
def site(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`site(settings)`: a site with four GPUs; the configurations have 7 workers and 3."""
    text = 'case "$*" in *audio*) n=7 ;; *) n=3 ;; esac'
    program(folder, "emo", text, r'printf "data:\n  shards: s\n  workers: $n\n"')

    def submit(settings: str, *words: str) -> subprocess.CompletedProcess[str]:
        (folder / "mine.sh").write_text(f"source slurm/site.sh\nSITE_GPUS_PER_NODE=4 {settings}\n")
        return run(folder, *words, EMO_SITE="mine.sh")

    return submit


TEXT = ("slurm/sbatch.sh", "--dry-run", "train", "gpu", "text.yaml", "run=r")
CHAIN = ("slurm/submit.sh", "shards.yaml", "text.yaml", "audio.yaml", "--dry-run")


def test_a_training_gets_eight_cores_a_gpu(site: Callable[..., Any]) -> None:
    said = site("", *TEXT)
    assert "--cpus-per-task=32" in shlex.split(said.stdout), said.stderr
    evaluate = site("", "slurm/sbatch.sh", "--dry-run", "evaluate", "r")
    assert "--cpus-per-task=4" in shlex.split(evaluate.stdout), evaluate.stderr
    assert "--cpus-per-task=4" in shlex.split(site("SITE_GPUS_PER_NODE=0", *TEXT[:3], "cpu",
                                                   *TEXT[4:]).stdout)  # fmt: skip


def test_fewer_cores_than_processes_are_refused(site: Callable[..., Any]) -> None:
    said = site("SITE_CPUS_TRAIN=15", *TEXT)
    assert said.returncode == 2
    assert ("4 ranks with data.workers=3 are 16 processes a node: ask for as many cores, or set "
            "data.workers=2") in said.stderr  # fmt: skip
    assert site("SITE_CPUS_TRAIN=16", *TEXT).returncode == 0
    assert site("SITE_CPUS_TRAIN=15 SITE_PROCESSES_PER_NODE=2", *TEXT).returncode == 0
    assert site("SITE_CPUS_TRAIN=1 SITE_GPUS_PER_NODE=0", *TEXT[:3], "cpu",
                *TEXT[4:]).returncode == 0  # fmt: skip


def test_a_chain_needs_the_cores_of_its_greediest_training(site: Callable[..., Any]) -> None:
    assert site("SITE_CPUS_TRAIN=32", *CHAIN).returncode == 0
    said = site("SITE_CPUS_TRAIN=31", *CHAIN)
    assert said.returncode == 2
    assert "data.workers=7 are 32 processes" in said.stderr
