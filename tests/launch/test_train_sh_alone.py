"""launch/train.sh by itself: what it counts, whom it tells, which code it ends with. No torch runs.

The file is copied out of the checkout, so that programs come from the tests' own folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GPU = "GPU {}: NVIDIA A100-SXM4-40GB (UUID: GPU-0f0f0f0f-{})\n"
SLICE = "  MIG 1g.5gb      Device  {}: (UUID: MIG-0e0e0e0e-{})\n"

# What a rank does, whose process has a name that is hard to read in /proc.
RANK = "(a) rank"
SAVES = "trap 'echo 75 >$EMO_EXIT_FILE; exit 75' TERM"
HANGS = "trap '' TERM"
STARTS = "trap - TERM"
# As the launcher does, it makes 1 of every code.
LAUNCHER = f"""'{{folder}}/{RANK}' & wait $! && exit 0 || exit 1"""


@pytest.fixture
def script(tmp_path):
    """`script(strategy, ..., programs={name: what bash runs})`: the copy, started."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    config = tmp_path / "any.yaml"
    config.touch()
    started = []

    def start(strategy, *arguments, programs=None, **environment):
        folder = tmp_path / "programs"
        folder.mkdir()
        for name, program in ({"accelerate": "exit 3"} | (programs or {})).items():
            (folder / name).write_text(f"#!/usr/bin/env bash\n{program}\n")
            (folder / name).chmod(0o755)
        for name in programs or {}:
            text = (folder / name).read_text().replace("{folder}", str(folder))
            (folder / name).write_text(text)
        keep = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        process = subprocess.Popen(
            [str(tmp_path / "launch/train.sh"), strategy, str(config), *arguments],
            env=keep | {"PATH": f"{folder}:/usr/bin:/bin"} | environment, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def processes(process) -> int:
    """As many as the printed command starts."""
    said, complaint = process.communicate(timeout=30)
    assert process.returncode == 0, complaint
    words = said.split()
    return int(words[words.index("--num_processes") + 1])


@pytest.mark.parametrize(
    ("says", "count"),
    [
        (f"printf '{GPU.format(0, 'a')}{GPU.format(1, 'b')}'", 2),
        (f"printf '{GPU.format(0, 'a')}{SLICE.format(0, 'a')}{SLICE.format(1, 'b')}'", 1),
        ("echo 'No devices were found'", 2),
        ("echo 'NVIDIA-SMI has failed: the driver is not running'; exit 9", 2),
        ("exit 6", 2),
    ],
    ids=["two", "slices of one", "none", "no driver", "silence"],
)
@pytest.mark.parametrize("strategy", ["gpu", "zero2"])
def test_gpus_are_counted_by_nvidia_smi(script, strategy, says, count):
    """Where there is none, two processes run on the CPU."""
    says = says.replace("\n", "\\n")
    run = script(strategy, "--dry-run", programs={"nvidia-smi": says})
    assert processes(run) == count


DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 3; return 0; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="makes a driver that says what it is told")
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="nvidia-smi would be asked")
def test_a_container_with_gpus_and_no_nvidia_smi_runs_on_them(script, tmp_path):
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    made = ["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "driver.c")]
    subprocess.run(made, check=True)
    python = {"python": f'exec {sys.executable} "$@"'}
    run = script("zero2", "--dry-run", programs=python, LD_LIBRARY_PATH=str(tmp_path))
    said, complaint = run.communicate(timeout=30)
    assert "--num_processes 3 " in said, complaint
    assert "EMO_DEVICE=gpu" in said
    assert "DS_ACCELERATOR" not in said


@pytest.mark.parametrize(("override", "has"), [("runtime.offload=true", True), ("a=b", False)])
def test_offloaded_optimizers_on_gpus_get_threads(script, override, has):
    two = GPU.format(0, "a") + GPU.format(1, "b")
    run = script("zero2", override, "--dry-run", programs={"nvidia-smi": f"printf '{two}'"})
    said, _ = run.communicate(timeout=30)
    assert ("OMP_NUM_THREADS=" in said) == has


def test_a_training_on_the_cpu_asks_for_no_gpu(script):
    run = script("cpu", "--dry-run", programs={"nvidia-smi": "exit 9"}, EMO_PROCESSES="3")
    assert processes(run) == 3


@pytest.mark.parametrize(
    ("visible", "on_cpu", "count"),
    [
        ("0", False, 1),
        ("0,1,2", False, 3),
        ("0, 1", False, 2),
        ("0,1,", False, 2),
        ("1,-1,0", False, 1),
        ("GPU-0f0f,GPU-0e0e", False, 2),
        ("MIG-0f0f,MIG-0e0e", False, 1),
        ("", True, 2),
        ("-1", True, 2),
        ("NoDevFiles", True, 2),
        (",", True, 2),
    ],
)
def test_visible_devices_are_counted_as_cuda_does(script, visible, on_cpu, count):
    four = "\\n".join(GPU.format(n, n).strip() for n in range(4))
    programs = {"nvidia-smi": f"printf '{four}\\n'"}
    run = script("gpu", "--dry-run", programs=programs, CUDA_VISIBLE_DEVICES=visible)
    said, _ = run.communicate(timeout=30)
    assert f"--num_processes {count} " in said
    assert ("ACCELERATE_USE_CPU=true" in said) == on_cpu


@pytest.fixture
def running(script):
    """`running(what the rank does)`: a run whose launcher has one rank, where pkill is missing."""

    def start(rank, **environment):
        loop = f"{rank}\necho ready >&2\nwhile :; do sleep 0.02; done"
        programs = {"python": LAUNCHER, RANK: loop, "pkill": "exit 127"}
        run = script("cpu", programs=programs, **environment)
        assert run.stderr.readline() == "ready\n"
        return run

    return start


@pytest.mark.parametrize("name", ["TERM", "USR1", "USR2", "INT"])
def test_a_stop_reaches_the_rank_which_saves(running, name):
    run = running(SAVES)
    run.send_signal(signal.Signals[f"SIG{name}"])
    assert run.wait(20) == 75


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("USR1", 143), ("INT", 130)])
@pytest.mark.parametrize("rank", [STARTS, HANGS], ids=["starts", "hangs"])
def test_a_stop_that_saves_nothing_does_not_say_that_it_did(running, rank, name, code):
    run = running(rank, EMO_GRACE="1")
    run.send_signal(signal.Signals[f"SIG{name}"])
    assert run.wait(20) == code


def test_ctrl_c_twice_means_now(running):
    run = running(HANGS, EMO_GRACE="60")
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    assert "saves a checkpoint first" in run.stderr.readline()
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(("rank", "code"), [
    ("exit 0", 0), ("exit 7", 1), ("echo 2 >$EMO_EXIT_FILE; exit 2", 2), ("kill -KILL $$", 1),
])  # fmt: skip
def test_the_code_is_the_ranks_word_or_the_launchers(script, rank, code):
    run = script("cpu", programs={"python": LAUNCHER, RANK: rank})
    assert run.wait(20) == code


def test_sockets_get_a_short_folder(script, tmp_path):
    """Python's in a path of more than 107 characters fail as "AF_UNIX path too long"."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    run = script("cpu", programs={"python": "echo $TMPDIR"}, TMPDIR=str(long))
    said, complaint = run.communicate(timeout=20)
    assert (said, run.returncode) == ("/tmp\n", 0)
    assert complaint.startswith("TMPDIR is too long for sockets")
