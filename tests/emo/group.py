"""One rank of a group that does several runs one after the other: imports are paid for once.

    RANK=… WORLD_SIZE=… LOCAL_RANK=… MASTER_ADDR=… MASTER_PORT=… python group.py JOBS.json

A job is {"strategy", "config"} and, if wanted, "stop_at": every rank gets a real SIGTERM (or the
"signal" named) when the log has reached that step; "fault" and "record": see `faults.py`;
"gpu": not on the CPU; "environment": more variables; "copy_of": the run folder begins as a copy of
that one; "as_ranks": this lone process cuts a batch into micro-batches as ranks cut it among them.
What comes of a job is read from its run folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

ENVIRONMENT = {
    "gpu": {},
    "cpu": {"ACCELERATE_USE_CPU": "true"},
    "fsdp": {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "zero": {"ACCELERATE_USE_DEEPSPEED": "true", "DS_ACCELERATOR": "cpu"},
}  # as launch/train.sh and the files in launch/accelerate set it


def stop_when(log: Path, step: int, number: int, ended: threading.Event) -> None:
    """A signal to this process once `log` has a line of `step`."""
    while not ended.is_set():
        lines = log.read_text().splitlines() if log.exists() else []
        if any(f'"step": {step},' in line for line in lines):
            os.kill(os.getpid(), number)
            return
        time.sleep(0.002)


def cut_as_ranks(batches: Any, world: int, rank: int, accumulation: int = 1) -> Any:
    """`rank_slices` of one process, its micro-batches those of `accumulation` ranks."""
    assert (world, rank) == (1, 0)
    return batches.reshape(*batches.shape[:-1], -1, accumulation).swapaxes(-1, -2)


def do(job: dict[str, Any]) -> str:
    import faults
    import torch.distributed as dist
    from accelerate.state import AcceleratorState, GradientState, PartialState

    from emo.config import ExperimentConfig
    from emo.data import steps
    from emo.data.plan import rank_slices
    from emo.distributed import launcher
    from emo.training.train import train
    from shards.configfile import parse
    from shards.errors import UserError

    launcher._stop = False
    steps.rank_slices = cut_as_ranks if job.get("as_ranks") else rank_slices
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_", "DS_"))]:
        del os.environ[name]
    wanted = ENVIRONMENT[job["strategy"].rstrip("0123456789")]
    on_cpu = ("ACCELERATE_USE_CPU", "DS_ACCELERATOR") if job.get("gpu") else ()
    os.environ |= {name: value for name, value in wanted.items() if name not in on_cpu}
    os.environ |= job.get("environment", {})
    runtime = {"strategy": job["strategy"], "processes": int(os.environ["WORLD_SIZE"])}
    raw = job["config"]
    raw["runtime"] = runtime | raw.get("runtime", {})
    if job.get("copy_of"):
        if os.environ["RANK"] == "0":
            shutil.copytree(job["copy_of"], raw["run"])
        dist.barrier()
    ended = threading.Event()
    if job.get("stop_at"):
        number = signal.Signals[job.get("signal", "SIGTERM")]
        watched = (Path(raw["run"]) / "log.jsonl", job["stop_at"], number, ended)
        threading.Thread(target=stop_when, args=watched, daemon=True).start()
    try:
        with faults.armed(job.get("fault"), job.get("record")):
            return train(parse(ExperimentConfig, raw, "the job"))
    except UserError as error:
        return f"error: {error}"
    finally:
        ended.set()


def main() -> None:
    import torch.distributed as dist

    jobs = json.loads(Path(sys.argv[1]).read_text())
    outcomes = {}
    for job in jobs:
        began, used = time.monotonic(), time.process_time()
        outcomes[job["config"]["run"]] = do(job)
        if os.environ["RANK"] == "0":
            print(f"== {Path(job['config']['run']).name} {time.monotonic() - began:.1f} s, "
                  f"CPU {time.process_time() - used:.1f} s", flush=True)  # fmt: skip
    Path(sys.argv[1]).with_suffix(f".rank{os.environ['RANK']}").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
