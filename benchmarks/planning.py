"""The cost of planning: an epoch of 10 million units for one of 1,024 ranks, and views.

    python benchmarks/planning.py [--units N] [--world N] [--global-batch N]

Each order runs in a process of its own, to measure its peak memory. "start" plans an epoch from
its first step; "middle" plans the same epoch from half its units on, as a resumed run does. "CPU"
is the processor time of "set up" and "start", which is comparable even on a busy machine. Limits:
2 s and 1,000 MB. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any, get_args

import numpy as np
from table import resident  # this folder's

from emo.data.config import PlanConfig
from emo.data.plan import Plan, UnitFacts, rank_slices

ORDERS = get_args(PlanConfig.model_fields["order"].annotation)


def measure(order: str, units: int, world: int, global_batch: int) -> dict[str, float]:
    """Seconds and peak megabytes of one order in this process."""
    random = np.random.default_rng(0)
    facts: dict[str, Any] = {}
    if order == "windowed":
        facts["shards"] = np.arange(units, dtype=np.int32) // 1000
    if order == "bucketed":
        facts["lengths"] = random.lognormal(1.3, 0.6, units).clip(0.6, 34).astype(np.float32)
    if order == "balanced":
        facts["labels"] = random.integers(0, 5, units, dtype=np.int8)
    if order == "dialogues":
        units //= 20
        facts["groups"] = list(np.arange(units * 20).reshape(units, 20))
    before, used = time.perf_counter(), time.process_time()
    plan = Plan(PlanConfig(order=order), units=units, global_batch=global_batch, seed=1,
                facts=UnitFacts(**facts))  # fmt: skip
    made = time.perf_counter()
    steps = rank_slices(plan.epoch(0), world, rank=world // 2)
    started, used = time.perf_counter(), time.process_time() - used
    middle = units // 2 // global_batch * global_batch
    rest = rank_slices(plan.epoch(0, consumed=middle), world, rank=world // 2)
    resumed = time.perf_counter()
    assert np.array_equal(rest, steps[-len(rest) :])
    result = {"units": units, "steps": len(steps), "setup": made - before}
    result |= {"start": started - made, "middle": resumed - started, "cpu": used}
    result["peak_mb"] = resident("VmHWM")
    if order == "bucketed":
        result["padding"] = padding_share(plan.epoch(0), facts["lengths"])
    return result


def padding_share(batches: np.ndarray, lengths: np.ndarray) -> float:
    """Share of padding if each batch is padded to its longest unit; missing units (-1) count not.

    Args:
        batches: int64 [steps, global batch], -1 for no unit.
        lengths: [units].
    """
    valid = batches >= 0
    taken = np.where(valid, lengths[np.maximum(batches, 0)], 0)
    return float(1 - taken.sum() / (taken.max(axis=1) * valid.sum(axis=1)).sum())


def orders_table(options: argparse.Namespace) -> None:
    """Print one line an order."""
    print(f"one of {options.world} ranks, global batch {options.global_batch}")
    heads = ("set up", "start", "middle", "CPU", "peak MB")
    print(f"{'order':<10} {'units':>12}" + "".join(f" {head:>8}" for head in heads))
    sizes = [options.units, options.world, options.global_batch]
    for order in ORDERS:
        command = [sys.executable, __file__, "--order", order]
        for flag, size in zip(("--units", "--world", "--global-batch"), sizes, strict=True):
            command += [flag, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        r = json.loads(done.stdout)
        seconds = "".join(f" {r[key]:6.2f} s" for key in ("setup", "start", "middle", "cpu"))
        padding = f"   padding {100 * r['padding']:.1f} %" if "padding" in r else ""
        print(f"{order:<10} {r['units']:12,d}{seconds} {r['peak_mb']:8.0f}{padding}")


def views_table(utterances: int = 10_000) -> None:
    """Print how long each protocol takes over an index of five variants an utterance."""
    from shards.extract.augment import CLEAN, PAPER_VARIANTS
    from shards.views.view import ViewConfig, make_view

    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {}
    turns = [(d, t) for d in range(utterances // 40) for t in range(40)]
    codes = random.choice(["ang", "hap", "exc", "neu", "sad", "fru"], len(turns)).tolist()
    texts = random.integers(0, 5000, len(turns)).tolist()
    variants = (CLEAN, *PAPER_VARIANTS)
    rows = [(i, variant) for i in range(len(turns)) for variant in variants]
    names = [f"Ses0{d % 5 + 1}F_impro{d:03d}" for d, _ in turns]
    columns["utterance"] = [f"{names[i]}_{'FM'[turns[i][1] % 2]}{turns[i][1]:03d}" for i, _ in rows]
    columns["variant"] = [variant for _, variant in rows]
    columns["label"] = [codes[i] for i, _ in rows]
    columns["speaker"] = [names[i][:5] + "FM"[turns[i][1] % 2] for i, _ in rows]
    columns["session"] = [names[i][:5] for i, _ in rows]
    columns["dialogue"] = [names[i] for i, _ in rows]
    columns["split"] = ["test" if names[i][:5] == "Ses05" else "train" for i, _ in rows]
    columns["text"] = [f"line {texts[i]}" for i, _ in rows]
    columns["turn"] = [turns[i][1] for i, _ in rows]
    make_view(columns, ViewConfig())  # imports scikit-learn
    print(f"\nviews of {len(turns):,} utterances x {len(variants)} variants")
    for protocol in get_args(ViewConfig.model_fields["protocol"].annotation):
        fold = {"leave_one_session_out": "Ses05", "leave_one_speaker_out": "Ses05F"}.get(protocol)
        before = time.perf_counter()
        make_view(columns, ViewConfig(protocol=protocol, fold=fold))
        print(f"{protocol:<22} {time.perf_counter() - before:6.3f} s")


def main() -> None:
    """Print both tables, or (with `--order`) one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000_000)
    parser.add_argument("--world", type=int, default=1024)
    parser.add_argument("--global-batch", type=int, default=65_536)
    parser.add_argument("--order", choices=ORDERS, help="measure this one only, here; print JSON")
    options = parser.parse_args()
    if options.order:
        sizes = (options.units, options.world, options.global_batch)
        print(json.dumps(measure(options.order, *sizes)))
        return
    orders_table(options)
    views_table()


if __name__ == "__main__":
    main()
