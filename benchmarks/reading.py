"""How fast samples are read: ours against webdataset's streaming, and against the limit.

All read the same shards in one run, one after the other, from the page cache. Ours is what training
uses: its plan, its batches, its loader. A batch is 32 samples as tensors: log-mel as stored
(float16) and token ids, padded to the longest, and their masks. `webdataset` streams with its
shuffle buffer and fills the same tensors. The limit is `pread` and CRC32 of the same bytes, without
decoding or collating. A second table shows our workers' memory over epochs.

    python benchmarks/reading.py [--samples 8000] [--repeat 3] [--epochs 20] [--folder DATASET]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics as numbers
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from rich.console import Console
from rich.table import Table

from emo.data.config import DataConfig, PlanConfig
from emo.data.loader import Loader
from emo.data.normalise.base import Moments
from emo.data.normalise.train import TrainStatistics
from emo.data.plan import Plan, Share
from emo.data.source import Supervision
from emo.data.steps import TrainingSteps
from emo.data.utterances import Utterances
from shards.build import claim
from shards.build.merge import merge
from shards.config import ShardConfig
from shards.configfile import parse
from shards.corpora.utterance import Utterance
from shards.processes import keep_freed_memory
from shards.store.index import open_dataset
from shards.store.schema import CLEAN, Sample, metadata, sample_key
from shards.store.sidecar import shard_name
from shards.store.write import write_shard

BATCH = 32
LIMIT = "pread + CRC32 (the limit)"
BUFFER = 1000  # samples in webdataset's shuffle buffer, its documentation's example
MELS, TOKENS = 64, 24
INPUTS = {"audio": "logmel", "text": "tokens"}
MEMBERS = tuple(INPUTS.values())
Batch = dict[str, torch.Tensor]


def make_dataset(folder: Path, samples: int) -> None:
    """A dataset of `samples` utterances, 64 a shard: 2 to 7 s of log-mel, 48 kB in the mean."""
    rng = np.random.default_rng(0)
    frames = rng.integers(200, 550, samples)
    turns = [
        Utterance(f"turn{i:06d}", None, "x", "neu", (), f"s{i % 10}", "1", f"d{i // 30}", i % 30)
        for i in range(samples)
    ]
    raw = {
        "corpus": {"reader": "iemocap", "root": "."},
        "features": {"kinds": ["logmel"], "mels": MELS},
        "text": None,
        "output": {"folder": str(folder)},
    }
    folder.mkdir(parents=True)
    build = claim.claim(folder, parse(ShardConfig, raw, "the benchmark"), turns)
    for shard in range(build.shards):
        mine = range(shard * 64, min(samples, shard * 64 + 64))
        items = []
        for i in mine:
            arrays = {
                "logmel": rng.normal(-40, 15, (frames[i], MELS)).astype(np.float16),
                "tokens": rng.integers(0, 2000, TOKENS),
            }
            meta = metadata(turns[i], CLEAN, arrays, "x", 4.0, 20.0)
            items.append(Sample(sample_key(turns[i].id, CLEAN), meta, arrays))
        write_shard(folder, shard, build.digest, len(items), items)
    merge(folder, build, 0.0)


def collate(samples: list[dict[str, Any]]) -> Batch:
    """What `emo.data.utterances.Utterances.batch` makes of shards: padded values and masks."""
    lengths = np.array([len(sample["logmel.npy"]) for sample in samples])[:, None]
    sizes = np.array([len(sample["tokens.npy"]) for sample in samples])[:, None]
    audio = np.zeros((len(samples), lengths.max(), MELS), np.float16)
    ids = np.zeros((len(samples), sizes.max()), np.int64)
    for i, sample in enumerate(samples):
        audio[i, : len(sample["logmel.npy"])] = sample["logmel.npy"]
        ids[i, : len(sample["tokens.npy"])] = sample["tokens.npy"]
    arrays = {
        "audio": audio,
        "audio_mask": np.arange(audio.shape[1]) < lengths,
        "tokens": ids,
        "token_mask": np.arange(ids.shape[1]) < sizes,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Ours:
    """Epochs as training reads them: one loader over all of them, one epoch an iteration."""

    def __init__(self, folder: Path, workers: int, epochs: int = 1, start: float = 0.0) -> None:
        dataset = open_dataset(folder)
        count = len(dataset)
        statistics = TrainStatistics(Moments(np.zeros(MELS, "f4"), np.ones(MELS, "f4"), 1))
        samples = Utterances(
            dataset,
            INPUTS,
            Supervision(np.zeros(count, np.int64), np.zeros((count, 4), np.float32)),
            statistics=statistics,
            pad_token=0,
            config=DataConfig(shards=folder),
        )
        plan = Plan(PlanConfig(), units=count, global_batch=BATCH, seed=1)
        begin = replace(plan.start(), consumed=int(start * count) // BATCH * BATCH)
        steps = TrainingSteps(
            samples,
            np.arange(count),
            plan,
            begin,
            epochs=epochs,
            share=Share(),
        )
        self.batches = iter(Loader(steps, range(len(steps)), workers=workers))
        self.steps = plan.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        for [batch] in islice(self.batches, self.steps):
            yield batch.inputs


def stream(folder: Path, workers: int) -> Iterable[Batch]:
    urls = [str(folder / shard.name) for shard in open_dataset(folder).manifest.shards]
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=100)
        .shuffle(BUFFER)
        .decode()
        .batched(BATCH, collation_fn=collate)
    )
    return webdataset.WebLoader(
        dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )


class Limit:
    """`pread` and CRC32 of the same bytes in random order, and nothing else."""

    def __init__(self, folder: Path) -> None:
        dataset = open_dataset(folder)
        shards = range(len(dataset.manifest.shards))
        self.files = [os.open(folder / shard_name(number), os.O_RDONLY) for number in shards]
        columns = ["shard", *(f"{name}.{what}" for name in MEMBERS for what in ("offset", "size"))]
        self.rows = np.stack([dataset.column(name) for name in columns], axis=1).astype(np.int64)

    def __iter__(self) -> Iterator[Batch]:
        one = {"audio": torch.zeros(1)}
        for shard, *places in np.random.default_rng().permutation(self.rows).tolist():
            for offset, size in zip(places[::2], places[1::2], strict=True):
                zlib.crc32(os.pread(self.files[shard], size, offset))
            yield one


def measure(make: Callable[[], Iterable[Batch]], expected: int, repeat: int) -> tuple[float, float]:
    """Samples a second, the median of `repeat` epochs after one to warm up; CPU µs a sample.

    Processor time is that of all processes, and can be compared on a busy machine too.
    """
    rates, total, used = [], 0, cpu_seconds()
    batches = make()
    for _ in range(repeat + 1):
        began = time.perf_counter()
        count = sum(len(batch["audio"]) for batch in batches)
        rates.append(count / (time.perf_counter() - began))
        # Training fills the last batch of an epoch with samples of the next one.
        assert 0 <= count - expected < BATCH, f"{count} samples, not {expected}"
        total += count
    del batches  # ends the workers
    used = cpu_seconds() - used
    return numbers.median(rates[1:]), 1e6 * used / total


def cpu_seconds() -> float:
    """Used so far by this process and by all of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def first_batch(folder: Path, start: float) -> float:
    """Milliseconds to open the dataset and read a first batch, `start` (a share) into an epoch."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        next(iter(Ours(folder, 0, start=start)))
        times.append(1000 * (time.perf_counter() - began))
    return numbers.median(times)


def memory(folder: Path, epochs: int) -> list[list[float]]:
    """Private MB of each of two workers, near the end of each epoch."""
    ours = Ours(folder, 2, epochs)
    before, held = set(active_children()), []
    for _ in range(epochs):
        for number, _ in enumerate(ours):
            if number == ours.steps - 10:  # the last epoch's end ends the workers
                workers = set(active_children()) - before
                held.append([_private(worker.pid) for worker in workers])
    return held


def _private(pid: int | None) -> float:
    kilobytes = re.findall(
        r"Private_\w+:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text()
    )
    return sum(map(int, kilobytes)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="for the memory of workers")
    parser.add_argument("--folder", type=Path, help="a dataset of ours with 64 mels and tokens")
    options = parser.parse_args()
    keep_freed_memory()  # for all readers alike: workers are forked from here
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "shards"
        if options.folder is None:
            make_dataset(folder, options.samples)
        dataset = open_dataset(folder)
        size = float(sum(dataset.column(f"{name}.size").sum() for name in MEMBERS)) / len(dataset)
        count = len(dataset)
        del dataset
        makers = {
            "ours, one process": lambda: Ours(folder, 0, options.repeat + 1),
            "webdataset, one process": lambda: stream(folder, 0),
            LIMIT: lambda: Limit(folder),
            "ours, 2 workers": lambda: Ours(folder, 2, options.repeat + 1),
            "webdataset, 2 workers": lambda: stream(folder, 2),
        }
        measured = {name: measure(make, count, options.repeat) for name, make in makers.items()}
        starts = {start: first_batch(folder, start) for start in (0.0, 0.5, 0.95)}
        held = memory(folder, options.epochs)
    table = Table(title=f"{count} samples of {size / 1000:.1f} kB, batches of {BATCH}, page cache")
    heads = ("reader", "samples/s", "MB/s", "times webdataset", "share of limit", "CPU µs/sample")
    for head in heads:
        table.add_column(head, justify="left" if head == "reader" else "right")
    bare, _ = measured[LIMIT]
    for name, (rate, cpu) in measured.items():
        kind = "2 workers" if "2 workers" in name else "one process"
        times = rate / measured[f"webdataset, {kind}"][0]
        table.add_row(
            name,
            f"{rate:,.0f}",
            f"{rate * size / 1e6:,.0f}",
            f"{times:.2f}",
            f"{rate / bare:.2f}",
            f"{cpu:.0f}",
        )
    console = Console(width=100)
    console.print(table)
    cells = ", ".join(f"{100 * start:.0f} %: {ms:.1f} ms" for start, ms in starts.items())
    console.print(f"Opening the dataset and reading the first batch, for an epoch begun at {cells}")
    for epoch in sorted({0, 4, 9, 14, len(held) - 1} & set(range(len(held)))):
        cells = ", ".join(f"{mb:.1f}" for mb in held[epoch])
        console.print(f"MB that the two workers hold after epoch {epoch + 1}: {cells}")


if __name__ == "__main__":
    main()
