"""How fast samples are read: ours against webdataset's streaming, and against the limit.

All on the same shards, in one run, one after the other, from the page cache. A batch is 32 samples,
log-mel padded to the longest and token ids, as tensors. `webdataset` streams with its shuffle
buffer; the limit is `pread` and CRC32 of the same bytes, without decoding or collating anything.

    python benchmarks/reading.py [--samples 8000] [--repeat 3] [--folder DATASET]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from shards import buildfile
from shards.config import ShardConfig
from shards.configfile import parse
from shards.index import open_dataset
from shards.merge import merge
from shards.read import ShardReader
from shards.schema import Sample, Utterance, metadata, sample_key
from shards.sidecar import shard_name
from shards.write import write_shard

BATCH = 32
LIMIT = "pread + CRC32 alone (the limit)"
BUFFER = 1000  # samples in webdataset's shuffle buffer, its documentation's example
MELS, TOKENS = 64, 24
MEMBERS = ("logmel", "tokens")
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
    build = buildfile.claim(folder, parse(ShardConfig, raw, "the benchmark"), turns)
    for shard in range(build.shards):
        mine = range(shard * 64, min(samples, shard * 64 + 64))
        items = [
            Sample(
                sample_key(turns[i].id, "clean"),
                metadata(turns[i], "clean", "x", 4.0, 20.0, int(frames[i]), TOKENS),
                {
                    "logmel": rng.normal(-40, 15, (frames[i], MELS)).astype(np.float16),
                    "tokens": rng.integers(0, 2000, TOKENS),
                },
            )
            for i in mine
        ]
        write_shard(folder, shard, build.digest, len(items), items)
    merge(folder, build, 0.0)


def collate(samples: list[dict[str, Any]], logmel: str = "logmel", tokens: str = "tokens") -> Batch:
    """Padded float16 [B, T, F] and int32 [B, L], with their lengths."""
    lengths = np.array([len(sample[logmel]) for sample in samples])
    sizes = np.array([len(sample[tokens]) for sample in samples])
    audio = np.empty((len(samples), lengths.max(), MELS), np.float16)
    ids = np.empty((len(samples), sizes.max()), np.int32)
    for i, sample in enumerate(samples):
        audio[i, : lengths[i]], audio[i, lengths[i] :] = sample[logmel], 0
        ids[i, : sizes[i]], ids[i, sizes[i] :] = sample[tokens], 0
    arrays = {"audio": audio, "tokens": ids, "frames": lengths, "sizes": sizes}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def collate_stream(samples: list[dict[str, Any]]) -> Batch:
    return collate(samples, "logmel.npy", "tokens.npy")


class Batches(Dataset):
    """Lists of rows -> collated batches."""

    def __init__(self, folder: Path) -> None:
        self.reader = ShardReader(folder, MEMBERS)

    def __getitem__(self, rows: list[int]) -> Batch:
        return collate([self.reader.read(row) for row in rows])


class Shuffled:
    """Another order in each epoch; `start` leaves out a share of it, as a resumed run does."""

    def __init__(self, count: int, start: float = 0.0) -> None:
        self.count, self.start, self.epoch = count, start, 0

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch += 1
        order = np.random.default_rng(self.epoch).permutation(self.count)
        order = order[int(self.start * self.count) :]
        return (order[i : i + BATCH].tolist() for i in range(0, len(order), BATCH))


def ours(folder: Path, workers: int, start: float = 0.0) -> DataLoader:
    batches = Batches(folder)
    order: Any = Shuffled(len(batches.reader), start)
    return DataLoader(
        batches,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def stream(folder: Path, workers: int) -> Iterable[Batch]:
    urls = [str(folder / shard.name) for shard in open_dataset(folder).manifest.shards]
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=100)
        .shuffle(BUFFER)
        .decode()
        .batched(BATCH, collation_fn=collate_stream)
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
        one = {"frames": torch.zeros(1)}
        for shard, *places in np.random.default_rng().permutation(self.rows).tolist():
            for offset, size in zip(places[::2], places[1::2], strict=True):
                zlib.crc32(os.pread(self.files[shard], size, offset))
            yield one


def measure(batches: Iterable[Batch], expected: int, repeat: int) -> float:
    """Samples a second, the median of `repeat` epochs after one to warm up."""
    rates = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        count = sum(len(batch["frames"]) for batch in batches)
        rates.append(count / (time.perf_counter() - began))
        assert count == expected, f"{count} samples, not {expected}"
    return statistics.median(rates[1:])


def first_batch(folder: Path, start: float) -> float:
    """Milliseconds from nothing to the first batch of an epoch that begins at the share `start`."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        next(iter(ours(folder, 0, start)))
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a dataset of ours with 64 mels and tokens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "shards"
        if options.folder is None:
            make_dataset(folder, options.samples)
        dataset = open_dataset(folder)
        size = float(sum(dataset.column(f"{name}.size").sum() for name in MEMBERS)) / len(dataset)
        count = len(dataset)
        del dataset
        makers = {
            "ours, one process": lambda: ours(folder, 0),
            "webdataset, one process": lambda: stream(folder, 0),
            LIMIT: lambda: Limit(folder),
            "ours, 2 workers": lambda: ours(folder, 2),
            "webdataset, 2 workers": lambda: stream(folder, 2),
        }
        rates = {name: measure(make(), count, options.repeat) for name, make in makers.items()}
        starts = {start: first_batch(folder, start) for start in (0.0, 0.5, 0.95)}
    table = Table(title=f"{count} samples of {size / 1000:.1f} kB, batches of {BATCH}, page cache")
    for head in ("reader", "samples/s", "MB/s", "times webdataset", "share of the limit"):
        table.add_column(head, justify="left" if head == "reader" else "right")
    bare = rates[LIMIT]
    for name, rate in rates.items():
        kind = "2 workers" if "2 workers" in name else "one process"
        times = rate / rates[f"webdataset, {kind}"]
        table.add_row(
            name,
            f"{rate:,.0f}",
            f"{rate * size / 1e6:,.0f}",
            f"{times:.2f}",
            f"{rate / bare:.2f}",
        )
    console = Console(width=100)
    console.print(table)
    cells = ", ".join(f"{100 * start:.0f} %: {ms:.1f} ms" for start, ms in starts.items())
    console.print(f"Opening the dataset and reading the first batch, for an epoch begun at {cells}")


if __name__ == "__main__":
    main()
