"""The first thing to run on a machine with GPUs: `make gpu-check`.

    python benchmarks/gpu_check.py [--part PART ...] [--rehearse] [--markdown FILE]

Every part is a list of checks. A check is a process of its own, so that one that crashes is one
line of the table. The data is made in seconds (under 1 MB) and nothing is downloaded. The table
also goes to `benchmarks/results/gpu-<card>.md`. The exit code is 1 if a check failed.

Without a GPU it lists what it would do, and checks nothing. `--rehearse` runs the same checks on
the CPU, as far as they can run there: that tests the checks, not a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu_probes import PROBES  # this folder's
from small_data import experiment_file, make_dataset  # this folder's
from table import Table  # this folder's

ROOT = Path(__file__).parent.parent
LIMIT = 600.0  # seconds that one part may take
STRATEGIES = ("gpu", "zero1", "zero2", "zero3", "fsdp")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Check:
    """One line of the table: `run(folder)` gives (passed, figures in words)."""

    part: str
    name: str
    run: Callable[[Path], tuple[bool, str]]


def strategies(rehearse: bool) -> Iterator[Check]:
    """Every strategy in every precision through the launcher: whole, stopped, resumed."""
    chosen = ("cpu", *STRATEGIES[1:]) if rehearse else STRATEGIES
    for strategy in chosen:
        for precision in PRECISIONS[:2] if rehearse else PRECISIONS:

            def run(folder: Path, strategy: str = strategy, precision: str = precision):
                return stop_and_resume(folder, strategy, precision)

            yield Check("strategies", f"{strategy} {precision}", run)


def stop_and_resume(folder: Path, strategy: str, precision: str) -> tuple[bool, str]:
    """Train to the end; train again, stopped at once and resumed; compare the last weights."""
    began = time.monotonic()

    def train(run: Path, *settings: str) -> int:
        command = ["launch/train.sh", strategy, str(folder / "experiment.yaml"), f"run={run}",
                   f"runtime.precision={precision}", *settings]  # fmt: skip
        log = folder / f"{run.name}.log"
        with log.open("a") as file:
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
        return done.returncode

    whole, parts = (folder / f"{strategy}-{precision}-{name}" for name in ("whole", "parts"))
    codes = [
        train(whole),
        train(parts, "resume=auto", "train.max_minutes=0.0001"),
        train(parts, "resume=auto"),
    ]
    if codes != [0, 75, 0]:
        words = (folder / f"{whole.name if codes[0] else parts.name}.log").read_text().splitlines()
        last = next((line for line in reversed(words) if line.startswith("error")), words[-1:])
        return False, f"exit codes {codes}, wanted [0, 75, 0]: {last}"
    from safetensors.torch import load_file

    one, two = (load_file(newest(run) / "weights.safetensors") for run in (whole, parts))
    off = max(float((one[name].double() - two[name].double()).abs().max()) for name in one)
    facts = json.loads((whole / "run.json").read_text())["machine"]
    same = "resumed bit-identical" if off == 0 else f"resumed off by {off:.1e}"
    where = f"{facts['device']} × {facts['processes']}"
    return off == 0, f"{where}, {same}, {time.monotonic() - began:.0f} s for three starts"


def newest(run: Path) -> Path:
    return max(
        path for path in (run / "checkpoints").iterdir() if re.match(r"step-\d+$", path.name)
    )


def gpu_tests(rehearse: bool) -> Iterator[Check]:
    """The tests that carry the mark `gpu`, each file a process of its own."""
    for file in sorted((ROOT / "tests").rglob("test_gpu.py")):
        name = str(file.relative_to(ROOT))

        def run(folder: Path, name: str = name) -> tuple[bool, str]:
            command = [sys.executable, "-m", "pytest", name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            passed = done.returncode == 0 and (rehearse or "skipped" not in last)
            return passed, last

        yield Check("tests", name, run)


def probes(rehearse: bool) -> Iterator[Check]:
    """Single questions to the device (`gpu_probes.py`)."""
    for name in PROBES:

        def run(folder: Path, name: str = name) -> tuple[bool, str]:
            (folder / name).mkdir()
            program = Path(__file__).with_name("gpu_probes.py")
            command = [sys.executable, str(program), name, str(folder / name)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            said = done.stdout if done.returncode in (0, 1) and done.stdout else done.stderr
            words = ([line for line in said.splitlines() if line.strip()] or ["no word"])[-1]
            return done.returncode == 0, words

        yield Check("probes", name, run)


PARTS: dict[str, Callable[[bool], Iterator[Check]]] = {
    "strategies": strategies,
    "tests": gpu_tests,
    "probes": probes,
}


def machine() -> str:
    """The card and what drives it, for the table's title."""
    if not torch.cuda.is_available():
        return f"rehearsal on the CPU of {platform.node()}, torch {torch.__version__}"
    driver = ""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        driver = f", driver {done.stdout.split()[0]}" if done.stdout.split() else ""
    except OSError:
        pass
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return (
        f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}{driver}, torch "
        f"{torch.__version__}, NCCL {nccl}, {time.strftime('%Y-%m-%d')}"
    )


def run_part(checks: list[Check], folder: Path) -> list[list[str]]:
    """The lines of one part; what would begin after `LIMIT` seconds is said to be left out."""
    began, rows = time.monotonic(), []
    for check in checks:
        if time.monotonic() - began > LIMIT:
            rows.append([f"{check.part}: {check.name}", "left out", f"{LIMIT:.0f} s were over"])
            continue
        try:
            passed, words = check.run(folder)
        except Exception as error:  # a check that breaks is a failed check, not the end of all
            passed, words = False, f"{type(error).__name__}: {error}"
        rows.append([f"{check.part}: {check.name}", "pass" if passed else "FAIL", words])
        print(" · ".join(rows[-1]), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="only this part (repeatable)"
    )
    parser.add_argument("--rehearse", action="store_true", help="run the checks on the CPU")
    parser.add_argument("--markdown", type=Path, help="where the table goes")
    options = parser.parse_args()
    chosen = options.part or list(PARTS)
    checks = {part: list(PARTS[part](options.rehearse)) for part in chosen}
    if not torch.cuda.is_available() and not options.rehearse:
        print("With a GPU this would check:")
        for part, ones in checks.items():
            summary = PARTS[part].__doc__ or ""
            print(f"  {part}: {summary.splitlines()[0]} ({len(ones)} checks)")
        print("no GPU: nothing was checked")
        return 0
    if options.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        experiment_file(folder / "experiment.yaml", make_dataset(folder / "data"))
        rows = [row for part in chosen for row in run_part(checks[part], folder)]
    table = Table(machine(), ("check", "result", "figures"), rows)
    table.show()
    if not options.rehearse or options.markdown:
        card = torch.cuda.get_device_name() if torch.cuda.is_available() else "rehearsal"
        card = re.sub(r"[^a-z0-9]+", "-", card.lower())
        path = options.markdown or ROOT / "benchmarks" / "results" / f"gpu-{card.strip('-')}.md"
        path.write_text(f"# {machine()}\n\n`make gpu-check`\n\n{table.markdown()}")
    failed = sum(row[1] != "pass" for row in rows)
    rehearsed = " (a rehearsal on the CPU: no GPU was checked)" if options.rehearse else ""
    print(f"{len(rows) - failed} of {len(rows)} checks passed{rehearsed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
