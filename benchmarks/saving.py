"""How long training stands still for a checkpoint: written before it goes on, and beside it.

    python benchmarks/saving.py [--saves N] [--steps N] [--markdown FILE]

A model of bert-base's size (110 M parameters, 1.3 GB with Adam's moments), saved every `--steps`
steps. "at once" waits for the disk after each save, as a save that writes in the foreground would.
Without a GPU the writing thread takes its processor time from training, so look at what stands
still, not at the total.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from gpu import BERT_BASE, experiment, start, step_of  # this folder's
from gpu_probes import CUDA, STRATEGY  # this folder's
from table import Table  # this folder's

from emo.data.plan import DataState
from emo.runs.checkpoint import Progress
from emo.training.saver import Saver

DATA = DataState(seed=1, epoch=0, consumed=4, global_batch=4, dataset_hash="none", plan="none")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="between two saves")
    parser.add_argument("--markdown", type=Path, help="where the table goes as well")
    options = parser.parse_args()
    run, batch = start(experiment(BERT_BASE, 4, strategy=STRATEGY, precision="bf16"), length=24)
    step_of(run, batch)
    folder = Path(tempfile.mkdtemp(prefix="saving."))
    run.experiment.config = run.config.model_copy(update={"run": folder})
    rows = []
    try:
        for name, waits in (("at once", True), ("beside training", False)):
            still, total = [], time.perf_counter()
            saver = Saver(run)
            for save in range(options.saves):
                for _ in range(options.steps):
                    step_of(run, batch)
                began = time.perf_counter()
                saver.save(Progress(step=save + 1 + options.saves * (not waits), data=DATA))
                if waits:
                    saver.finish()
                still.append(time.perf_counter() - began)
            saver.finish()
            total = time.perf_counter() - total
            rows.append([name, f"{sorted(still)[len(still) // 2]:.2f}", f"{max(still):.2f}",
                         f"{total:.1f}"])  # fmt: skip
    finally:
        shutil.rmtree(folder)
    where = "a GPU" if CUDA else "the CPU"
    heads = ("checkpoints", "stands still s (median)", "at most", "all steps and saves s")
    table = Table(f"110 M parameters on {where}, {options.saves} saves", heads, rows)
    table.show()
    if options.markdown:
        options.markdown.write_text(table.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
