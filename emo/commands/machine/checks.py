"""What `emo doctor` looks at: a table of checks, each a line or more in words."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "missing"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what is there, and what to do about what is not."""

    what: str
    state: State
    found: str
    remedy: str = ""


def python() -> Iterator[Finding]:
    here = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] in ((3, 11), (3, 12))
    yield Finding("Python", "ok" if fits else "missing", here, "use Python 3.11 or 3.12")


def memory() -> Iterator[Finding]:
    limit = _cgroup("memory.max")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(limit or whole, whole)
    found = f"{most / GIB:.0f} GiB" + (
        " (the container's limit)" if limit and limit < whole else ""
    )
    enough = most >= 8 * GIB
    remedy = "large encoders need 8 GiB and more: smaller micro-batches (train.accumulation)"
    yield Finding("memory", "ok" if enough else "note", found, remedy)


def threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    told = os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} cores may be used; OMP_NUM_THREADS is {told or 'not set'}"
    over = told is not None and told.isdigit() and int(told) > cores
    yield Finding("threads", "note" if over else "ok", found,
                  f"more threads than cores: set OMP_NUM_THREADS to {cores} at most")  # fmt: skip


def open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = hard != resource.RLIM_INFINITY and hard < 4096
    yield Finding(
        "open files", "note" if few else "ok", f"{soft}, at most {hard}; training raises it itself",
        "each rank is an open socket: raise the hard limit (ulimit -Hn, LimitNOFILE)",
    )  # fmt: skip


def disk() -> Iterator[Finding]:
    for folder in dict.fromkeys((Path.cwd(), Path(os.environ.get("TMPDIR", "/tmp")))):
        free = shutil.disk_usage(folder).free
        remedy = (
            "a checkpoint of a large encoder takes some GiB: free space, or run=FOLDER elsewhere"
        )
        state: State = "ok" if free > 10 * GIB else "note"
        yield Finding(f"disk {folder}", state, f"{free / GIB:.0f} GiB free", remedy)


def shared_memory() -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        yield Finding("/dev/shm", "missing", "not there", "data.workers needs it: mount a tmpfs")
        return
    free = shutil.disk_usage(folder).free
    remedy = "loader workers and NCCL use it: docker run --shm-size=2g, or data.workers=0"
    state: State = "ok" if free > GIB else "note"
    yield Finding("/dev/shm", state, f"{free / GIB:.1f} GiB free", remedy)


def slurm() -> Iterator[Finding]:
    if not (sbatch := shutil.which("sbatch")):
        remedy = "only for clusters: launch/train.sh trains on this machine"
        yield Finding("SLURM", "note", "no sbatch here", remedy)
        return
    said = _output("sinfo", "--noheader", "--format=%P %D %G")
    found = f"{sbatch}; partitions: {'; '.join(said.splitlines()[:4]) or 'sinfo says nothing'}"
    yield Finding("SLURM", "ok", found)


def torch_and_gpus() -> Iterator[Finding]:
    import torch

    yield Finding("torch", "ok", f"{torch.__version__}, built for CUDA {torch.version.cuda}")
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split(
        "\n"
    )
    if not torch.cuda.is_available():
        found = f"torch sees none; driver {driver[0] or 'not found'}"
        remedy = "training runs on the CPU; for GPUs install a driver that fits torch's CUDA"
        yield Finding("GPUs", "note", found, remedy)
        return
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found = f"{facts.name}, {facts.total_memory / GIB:.0f} GiB, driver {driver[0]}"
        fits = (facts.major, facts.minor) >= (7, 5)
        remedy = "torch is built for compute capability 7.5 and newer: use another GPU"
        yield Finding(f"GPU {number}", "ok" if fits else "missing", found, remedy)
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    yield Finding("NCCL", "ok", nccl)


def deepspeed() -> Iterator[Finding]:
    compilers = [name for name in ("c++", "g++", "clang++") if shutil.which(name)]
    ninja = importlib.util.find_spec("ninja") or shutil.which("ninja")
    whole = bool(compilers and ninja)
    found = f"DeepSpeed {_version('deepspeed')}, compiler {compilers[0] if compilers else 'none'}, "
    found += "ninja" if ninja else "no ninja"
    remedy = "ZeRO with offload compiles a small operation: apt install g++, pip install ninja"
    yield Finding("DeepSpeed operations", "ok" if whole else "note", found, remedy)


EXTRAS = {
    "espeakng_loader": ("the sample corpus", "sample"),
    "av": ("recordings in video containers", "media"),
    "onnx": ("emo export --onnx", "onnx"),
    "mkdocs": ("building the documentation", "docs"),
}


def extras() -> Iterator[Finding]:
    for module, (use, extra) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        remedy = f"only for {use}: pip install 'emo-shards[{extra}]'"
        yield Finding(f"extra {extra}", "ok" if there else "note",
                      "installed" if there else "not installed", remedy)  # fmt: skip


# In the order shown: what needs no import of torch comes first.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python, memory, threads, open_files, disk, shared_memory, slurm, deepspeed, extras,
    torch_and_gpus,
)  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    """What a program says; nothing where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cgroup(name: str) -> int | None:
    """A limit of this container, in bytes; None without one."""
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
