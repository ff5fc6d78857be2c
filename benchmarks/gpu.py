"""bert-base in bf16 on this GPU: its share of the rate that the matrix units really reach.

    python benchmarks/gpu.py [--batch 128] [--length 128] [--markdown FILE]

The rate is measured: the best of several products of two large bf16 matrices. The model is our text
branch in bert-base's sizes with random weights, trained by `emo.training.step.train_step` on one
batch of random words that is already on the GPU. Its work is counted by formula, as three forward
passes, without what activation checkpointing repeats. Prints ms a step, samples and tokens a
second, TFLOP/s, the share, and the peak memory, with and without torch.compile. Without a CUDA
device it says so and measures nothing. The other benchmarks (`strategies.py`, `training.py`,
`scaling.sh`) use a GPU if there is one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from table import Table, resident  # this folder's

from emo.config import ExperimentConfig
from emo.data.source import Batch
from emo.distributed.runtime import Runtime
from emo.models.losses.objective import Objective
from emo.models.model import EmotionModel
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from emo.training.optim import build_optimizer
from emo.training.step import train_step
from shards.configfile import parse

BERT_BASE = {"hidden": 768, "layers": 12, "heads": 12, "intermediate": 3072, "positions": 512}
VOCABULARY, CLASSES = 28_996, 5  # bert-base-cased's


class InMemory:
    """Gives the model what a batch holds: it is on the device already."""

    def to_model(self, batch: Batch, *_: Any) -> dict[str, torch.Tensor]:
        return batch.inputs


def flops(sizes: dict[str, int], batch: int, length: int) -> int:
    """Of one training step: multiplications and additions in matrix products, forward 1, back 2.

    A token costs a layer 8 d² in queries, keys, values and output, 4 d f in the two feed-forward
    products, and 4 T d against the other tokens of its line.
    """
    d, f = sizes["hidden"], sizes["intermediate"]
    layers = sizes["layers"] * length * (8 * d * d + 4 * d * f + 4 * length * d)
    return 3 * batch * (layers + 2 * d * CLASSES)


def matrix_rate(size: int = 8192, dtype: torch.dtype = torch.bfloat16, repeat: int = 20) -> float:
    """FLOP/s: the best of `repeat` products of two [size, size] matrices."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(repeat + 3):
        began = now()
        a @ b
        times.append(now() - began)
    return 2 * size**3 / min(times[3:])


def now() -> float:
    """The time, once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def experiment(sizes: dict[str, int], batch: int, **runtime: Any) -> ExperimentConfig:
    raw = {
        "name": "bert",
        "data": {"shards": "none"},
        "model": {"text": {"build": sizes, "pooling": "cls", "dropout": 0.1}},
        "optim": {"name": "adamw", "lr": 2e-5, "weight_decay": 0.01, "clip": 1.0},
        "train": {"global_batch": batch},
        "runtime": runtime,
    }
    return parse(ExperimentConfig, raw, "the benchmark")


def start(config: ExperimentConfig, length: int) -> tuple[Run, Batch]:
    """A run of `config` ready to step, and one batch of random words on its device."""
    batch = config.train.global_batch
    clip = config.optim.clip or 0.0
    runtime = Runtime.start(config.runtime, accumulation=1, micro_batch=batch, clip=clip)
    torch.manual_seed(1)
    made = EmotionModel(config.model, classes=CLASSES, sizes={"text": VOCABULARY})
    chosen = build_optimizer(made, config.optim, config.runtime.offload)
    model, optimizer = runtime.prepare(made, chosen)
    model.train()
    device = runtime.device
    words = {
        "tokens": torch.randint(1000, VOCABULARY, (batch, length)),
        "token_mask": torch.ones(batch, length, dtype=torch.bool),
    }
    whole = Batch(
        row=torch.arange(batch),
        valid=torch.ones(batch, dtype=torch.bool, device=device),
        skipped=torch.zeros(batch, dtype=torch.int64),
        target=torch.eye(CLASSES)[torch.arange(batch) % CLASSES].to(device),
        inputs={name: tensor.to(device) for name, tensor in words.items()},
    )
    objective = Objective.plain([str(number) for number in range(CLASSES)])
    # All that a step reads of an experiment.
    setting: Any = SimpleNamespace(config=config, samples=InMemory(), objective=objective)
    return Run(runtime, setting, model, Tracker(config.run, main=False, step=0), optimizer), whole


def step_of(run: Run, batch: Batch) -> None:
    """One optimizer step; that it was applied is asserted."""
    assert train_step(run, [batch], len(batch.valid)).applied


def measure(config: ExperimentConfig, length: int, steps: int, warm: int) -> tuple[float, float]:
    """Seconds a step (median) and the peak memory in MB."""
    run, batch = start(config, length)
    times = []
    for _ in range(warm + steps):
        began = now()
        step_of(run, batch)
        times.append(now() - began)
    on_gpu = run.runtime.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else resident("VmHWM")
    return statistics.median(times[warm:]), peak


HEADS = ("bert-base, bf16", "ms a step", "samples/s", "tokens/s", "TFLOP/s", "share of the rate",
         "peak MB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--length", type=int, default=128, help="tokens a line")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: no CUDA device, nothing measured")
        return
    rate = matrix_rate()
    work = flops(BERT_BASE, options.batch, options.length)
    rows = []
    for compiled in (False, True):
        torch.cuda.reset_peak_memory_stats()
        config = experiment(
            BERT_BASE, options.batch, strategy="gpu", precision="bf16", compile=compiled
        )
        seconds, peak = measure(config, options.length, options.steps, warm=10)
        rows.append([
            "torch.compile" if compiled else "eager",
            f"{1000 * seconds:.1f}",
            f"{options.batch / seconds:,.0f}",
            f"{options.batch * options.length / seconds:,.0f}",
            f"{work / seconds / 1e12:.0f}",
            f"{100 * work / seconds / rate:.0f} %",
            f"{peak:,.0f}",
        ])  # fmt: skip
    title = (
        f"{torch.cuda.get_device_name()}: matrix rate {rate / 1e12:.0f} TFLOP/s, "
        f"batches of {options.batch} x {options.length} tokens"
    )
    table = Table(title, HEADS, rows)
    table.show()
    if options.markdown:
        options.markdown.write_text(table.markdown())


if __name__ == "__main__":
    main()
