"""Building from segments of long recordings, against the same turns as files of their own.

    python benchmarks/segments.py [--recordings 10] [--minutes 30] [--segments 1000]
                                  [--formats wav flac ogg] [--markdown FILE]

The recordings are noise in syllables, 16 kHz mono, in each of `FORMATS`; segments of 2 to 8 s lie
at random, in random order of their ids within a recording. Both builds make log-mel spectrograms in
one process. Peak memory is that of the building process.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from table import Table, resident  # this folder's

RATE = 16000
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}
FIELDS = {"id": "id", "audio": "file", "label": "emotion", "start": "start", "end": "end"}


def make(root: Path, kind: str, recordings: int, minutes: float, segments: int) -> None:
    """`long/` with `long.csv`, and the same turns in `short/` with `short.csv`."""
    rng = np.random.default_rng(3)
    rows: dict[str, list[list[str]]] = {"long": [], "short": []}
    for folder in rows:
        (root / folder).mkdir(parents=True)
    for number in range(recordings):
        count = round(minutes * 60 * RATE)
        envelope = 0.05 + np.abs(np.sin(np.arange(count) / 3000))
        wave = (0.2 * envelope * rng.standard_normal(count)).astype(np.float32)
        path = root / "long" / f"{number:03d}.{kind}"
        with soundfile.SoundFile(path, "w", RATE, 1, FORMATS[kind]) as file:
            for first in range(0, count, RATE):  # Vorbis in one write would fill the stack
                file.write(wave[first : first + RATE])
        for turn in rng.permutation(segments // recordings):
            start = round(float(rng.uniform(0, minutes * 60 - 9)), 3)
            end = round(start + float(rng.uniform(2, 8)), 3)
            name, label = f"{number:03d}_{turn:04d}", ("joy", "rage")[turn % 2]
            short = root / "short" / f"{name}.{kind}"
            soundfile.write(short, wave[round(start * RATE) : round(end * RATE)], RATE,
                            subtype=FORMATS[kind])  # fmt: skip
            rows["long"].append([name, f"long/{path.name}", label, str(start), str(end)])
            rows["short"].append([name, f"short/{short.name}", label, "", ""])
    for name, lines in rows.items():
        with open(root / f"{name}.csv", "w", newline="") as out:
            csv.writer(out).writerows([["id", "file", "emotion", "start", "end"], *lines])


def build_one(root: Path, name: str) -> tuple[float, float]:
    """Seconds of this process, and its peak memory (MB), for a build of `name`.csv."""
    from shards.build.job import build
    from shards.config import ShardConfig
    from shards.configfile import parse

    raw = {
        "corpus": {
            "reader": "table",
            "root": str(root),
            "spec": {"tables": f"{name}.csv", "fields": FIELDS, "segments": name == "long",
                     "labels": {"joy": "hap", "rage": "ang"}},
            "modalities": ["audio"],
        },
        "labels": {"a": ["ang"], "h": ["hap"]},
        "augment": {"variants": []},
        "features": {"kinds": ["logmel"]},
        "text": None,
        "output": {"folder": str(root / f"shards-{name}")},
    }  # fmt: skip
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    config = parse(ShardConfig, raw, "the benchmark")
    started = time.process_time()
    build(config, workers=1)
    return time.process_time() - started, resident("VmHWM")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--recordings", type=int, default=10)
    words.add_argument("--minutes", type=float, default=30)
    words.add_argument("--segments", type=int, default=1000)
    words.add_argument("--formats", nargs="+", default=list(FORMATS))
    words.add_argument("--markdown", type=Path)
    args = words.parse_args()
    rows = []
    for kind in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), kind, args.recordings, args.minutes, args.segments)
            found = {}
            for name in ("short", "long"):  # each in a process of its own: peaks never fall
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found[name] = pool.apply(build_one, (Path(folder), name))
        (short, short_mb), (long, long_mb) = found["short"], found["long"]
        rows.append([kind, f"{short:.1f}", f"{long:.1f}", f"{long / short:.2f}",
                     f"{short_mb:.0f}", f"{long_mb:.0f}"])  # fmt: skip
    title = f"{args.segments} turns of {args.recordings} recordings of {args.minutes:g} minutes"
    heads = ["format", "files, CPU s", "segments, CPU s", "ratio", "files, peak MB",
             "segments, peak MB"]  # fmt: skip
    table = Table(title, heads, rows)
    table.show()
    if args.markdown:
        head = (
            "# Segments of long recordings\n\n"
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, other work beside it; seconds of "
            f"CPU of one process.\n\n`python benchmarks/segments.py {' '.join(sys.argv[1:])}`\n\n"
        )
        args.markdown.write_text(head + table.markdown())


if __name__ == "__main__":
    main()
