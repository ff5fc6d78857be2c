"""Every strategy, precision and number of processes on one experiment: one table from one command.

The fusion of the sample configurations is trained for 2 epochs on a small spoken corpus, which is
made first. There is no dropout, so that all runs should take the same steps. Each run consists of
real processes that call `emo train` with the environment of launch/train.sh and
launch/accelerate/*.yaml; they are forked from a process that has imported everything, which saves
ten seconds for each run.

    python benchmarks/strategies.py [--only STRATEGY ...] [--markdown FILE]

"off one process" is the largest difference of a step's loss from that of one process in fp32. "in
two" is one process that splits its batches in two, to show the effect of splitting a sum.
"evaluated" is the number of test turns with a prediction, of those in the view; "exported" the
number of weights in the exported model, of those in the module, including frozen ones. "peak MB"
is the peak memory of rank 0, libraries included; with a GPU, the GPU's memory. With GPUs there are
also strategy gpu and fp16, and as many processes as GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from safetensors import safe_open
from table import Table, resident  # this folder's

from emo.commands.training.train import train
from emo.runs import files
from emo.serving.export import export

ROOT = Path(__file__).parent.parent
ZERO = ("zero1", "zero2", "zero3")
STRATEGIES = ("cpu", "gpu", *ZERO, "fsdp")
WORLDS = (1, 2)
DIALOGUES, EPOCHS, BATCH = 10, 2, 24
SETTINGS = (
    "init={}", "data.variants=[clean]", "data.plan.order=bucketed", f"train.epochs={EPOCHS}",
    f"train.global_batch={BATCH}", "train.log_steps=1", "optim.lr=2.0e-3", "model.text.dropout=0.0",
    "model.text.build.dropout=0.0", "model.audio.dropout=0.0",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run; `extra` is the title of its `overrides`, which are besides SETTINGS."""

    strategy: str
    precision: str
    world: int
    extra: str = ""
    overrides: tuple[str, ...] = field(default=("model.freeze=[]",))

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.strategy, self.precision, str(self.world), self.extra)))


def jobs(gpus: int) -> list[Job]:
    result = []
    for strategy in STRATEGIES:
        if strategy == "gpu" and not gpus:
            continue
        on_cpu = strategy == "cpu" or not gpus
        precisions = ["fp32", "bf16"]
        if strategy in ("cpu", "gpu"):
            precisions.append("fp64")
        if not on_cpu:
            precisions.append("fp16")
        worlds = [world for world in WORLDS if on_cpu or world <= gpus]
        result += [Job(strategy, precision, world) for precision in precisions for world in worlds]
        if strategy in (*ZERO, "fsdp"):
            frozen = ("model.freeze=[text,audio]",)
            result.append(Job(strategy, "fp32", worlds[-1], "frozen branches", frozen))
    split = ("model.freeze=[]", "train.accumulation=2")
    result.insert(1, Job("cpu", "fp32", 1, "in two", split))
    return result


def environment(job: Job, rank: int, port: int, gpus: int) -> dict[str, str]:
    """What a rank is told by launch/train.sh and the launcher."""
    result = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job.world),
        "LOCAL_WORLD_SIZE": str(job.world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    on_cpu = job.strategy == "cpu" or not gpus
    if on_cpu and job.strategy not in ZERO:
        result["ACCELERATE_USE_CPU"] = "true"
    if job.strategy in ZERO:
        result["ACCELERATE_USE_DEEPSPEED"] = "true"
    if job.strategy == "fsdp":
        result |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    return result


def rank_process(job: Job, variables: dict[str, str], folder: str, data: str) -> None:
    """One rank of `job`, its words in a log of its own; leaves its peak memory beside the run."""
    os.environ |= variables
    run = Path(folder) / job.name
    log = os.open(f"{run}.rank{variables['RANK']}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = train(
        ROOT / "configs/sample/fusion.yaml",
        [f"data.shards={data}", f"run={run}", *SETTINGS, *job.overrides,
         f"runtime.strategy={job.strategy}", f"runtime.processes={job.world}",
         f"runtime.precision={job.precision}"],
    )  # fmt: skip
    if variables["RANK"] == "0":
        Path(f"{run}.peak").write_text(str(peak_memory(job.strategy)))
    sys.stdout.flush()
    os._exit(code)


def peak_memory(strategy: str) -> float:
    """MB of this process; on a GPU, of its memory."""
    import torch

    if strategy != "cpu" and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resident("VmHWM")


def run_job(job: Job, folder: Path, data: Path, gpus: int) -> None:
    """Start the ranks and wait for them."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    context = get_context("spawn" if gpus else "fork")  # CUDA does not survive a fork
    ranks = [
        context.Process(
            target=rank_process,
            args=(job, environment(job, rank, port, gpus), str(folder), str(data)),
        )
        for rank in range(job.world)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()


def losses(run: Path) -> list[float]:
    """Of every optimizer step."""
    lines = [json.loads(line) for line in (run / files.LOG).read_text().splitlines()]
    return [line["loss"] for line in lines if line["group"] == "train"]


def row(job: Job, folder: Path, one: list[float], seconds: float) -> list[str]:
    """The job's line of the table; a run that did not end well says why."""
    run = folder / job.name
    title = [job.strategy + (f", {job.extra}" if job.extra else ""), job.precision, str(job.world)]
    if not (run / files.METRICS).is_file():
        said = Path(f"{run}.rank0.log").read_text().strip().splitlines() or ["no word"]
        return [*title, f"refused: {said[-1]}", "", "", "", "", ""]
    found = losses(run)
    off = max(abs(a - b) for a, b in zip(found, one, strict=True))
    seen = {json.loads(line)["utterance"]
            for line in files.predictions(run, "test").read_text().splitlines()}  # fmt: skip
    wanted = json.loads((run / files.RECORD).read_text())["counts"]["test"]
    exported, module = exported_keys(run, folder / "exported" / job.name)
    return [
        *title,
        f"{found[-1]:.6f}",
        "" if "frozen" in job.extra else f"{off:.1e}",
        f"{len(seen)} of {wanted}",
        f"{len(exported & module)} of {len(module)}",
        f"{float(Path(f'{run}.peak').read_text()):,.0f}",
        f"{seconds:.1f}",
    ]


def exported_keys(run: Path, target: Path) -> tuple[set[str], set[str]]:
    """Names of the weights in the exported file, and in the module built from its description."""
    from emo.models.model import CONFIG, WEIGHTS, rebuild

    export(run, target)
    with safe_open(target / WEIGHTS, "pt") as file:
        exported = set(file.keys())
    description = json.loads((target / CONFIG).read_text())["recipe"]["description"]
    return exported, set(rebuild(description).state_dict())


def make_data(folder: Path) -> Path:
    """A spoken corpus of a few dialogues, and its shards, by the project's own commands."""
    command = [sys.executable, "-m", "shards"]
    for words in (
        ["sample-corpus", str(folder / "corpus"), "--dialogues", str(DIALOGUES)],
        ["build", str(ROOT / "configs/shards/sample.yaml"), f"corpus.root={folder / 'corpus'}",
         f"output.folder={folder / 'shards'}", "augment.variants=[]"],
    ):  # fmt: skip
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            sys.exit(done.stderr)
    return folder / "shards"


def count_gpus() -> int:
    """As launch/train.sh counts them: CUDA is left alone."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return len(done.stdout.splitlines())


HEADS = ("strategy", "precision", "processes", "final loss", "off one process", "evaluated",
         "exported", "peak MB", "s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    options = parser.parse_args()
    gpus = count_gpus()
    os.environ["OMP_NUM_THREADS"] = "1"
    if not gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
    # What every rank needs, once, before they are forked.
    import deepspeed  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401
    from transformers import BertModel  # noqa: F401

    import emo.training.train  # noqa: F401

    first = Job("cpu", "fp32", 1)
    chosen = [job for job in jobs(gpus) if job.strategy in options.only or job == first]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "exported").mkdir()
        data = make_data(folder)
        seconds = {}
        for number, job in enumerate(chosen, 1):
            print(f"\r{number} of {len(chosen)}: {job.name:<40}", end="", flush=True)
            began = time.perf_counter()
            run_job(job, folder, data, gpus)
            seconds[job] = time.perf_counter() - began
        print("\r" + " " * 60 + "\r", end="")
        one = losses(folder / first.name)
        rows = [row(job, folder, one, seconds[job]) for job in chosen]
    title = f"{len(one)} steps of {BATCH} turns in every run, text + audio + fusion"
    table = Table(title, HEADS, rows)
    table.show()
    if options.markdown:
        options.markdown.write_text(table.markdown())


if __name__ == "__main__":
    main()
