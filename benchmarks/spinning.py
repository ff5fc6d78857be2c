"""A training beside two busy processes: how long OpenMP's threads should spin when they wait.

GNU's OpenMP, which torch's packages bring, lets a thread spin at a barrier before it sleeps. Where
other processes want the cores, spinning threads keep the one that they wait for from running.

    python benchmarks/spinning.py CONFIG [--seconds 30] [--markdown FILE] [key=value ...]

Each setting of the environment trains CONFIG in one process with two OpenMP threads, alone and
beside two processes that never sleep; the settings take turns within each round. Samples a second
are the median of the log's lines after the first five.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import Table  # this folder's

SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's own (300000)": {"GOMP_SPINCOUNT": "300000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "KMP_BLOCKTIME=0": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "0"},
}
BUSY = "while True: pass"
WARM = 5  # lines of the log that are not counted


def samples_a_second(
    config: str, overrides: list[str], more: dict[str, str], seconds: float
) -> float:
    """The median rate of a training that is stopped after `seconds`."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"} | more
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run(
            [sys.executable, "-m", "emo", "train", config, *overrides, f"run={run}",
             "train.epochs=1000", f"train.max_minutes={seconds / 60}", "train.log_steps=2"],
            env=environment, check=False, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        rates = [line["samples_per_second"] for line in lines if line["group"] == "train"]
    return statistics.median(rates[WARM:] or rates or [0.0])


def measure(config: str, overrides: list[str], busy: int, seconds: float) -> dict[str, float]:
    beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        return {
            name: samples_a_second(config, overrides, more, seconds)
            for name, more in SETTINGS.items()
        }
    finally:
        for one in beside:
            one.kill()
            one.wait()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("config")
    words.add_argument("--seconds", type=float, default=30)
    words.add_argument("--rounds", type=int, default=2)
    words.add_argument("--markdown", type=Path)
    args, overrides = words.parse_known_args()
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(args.rounds):
        for busy in (0, 2):
            for name, rate in measure(args.config, overrides, busy, args.seconds).items():
                found.setdefault((name, busy), []).append(rate)
    rows = [
        [name, *(" / ".join(f"{rate:.0f}" for rate in found[name, busy]) for busy in (0, 2))]
        for name in SETTINGS
    ]
    table = Table(
        "samples a second, one figure a round", ["environment", "alone", "beside two"], rows
    )
    table.show()
    if args.markdown:
        where = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, {platform.processor()}"
        command = " ".join(["python", "benchmarks/spinning.py", *sys.argv[1:]])
        args.markdown.write_text(
            f"# Spinning threads\n\n{where}\n\n`{command}`\n\n{table.markdown()}"
        )


if __name__ == "__main__":
    main()
