"""`emo runs`: the run folders below a folder, with their state, best metric, step and age."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo.commands.command import Command
from shards.errors import UserError


@dataclass(frozen=True)
class Listed:
    """One run folder in words; `changed` is the time of its last sign of life."""

    run: Path
    state: str
    result: str
    step: str
    changed: float


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(args: argparse.Namespace) -> int:
    if not args.folder.is_dir():
        raise UserError(f"there is no folder {args.folder}: name one that holds runs")
    found = sorted(listed(args.folder), key=lambda one: -one.changed)
    if not found:
        raise UserError(f"{args.folder} holds no run: `emo train CONFIG` makes one")
    if args.json:
        for one in found:
            print(json.dumps({**one.__dict__, "run": str(one.run)}))
        return 0
    rows = [("run", "state", "test", "step", "age")]
    rows += [(str(one.run), one.state, one.result, one.step, _age(one.changed)) for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def listed(folder: Path) -> Iterator[Listed]:
    """Every run folder at or below `folder`."""
    from emo.runs import files

    for path in sorted(folder.rglob(files.CONFIG)):
        where = path.parent
        if (where / files.RECORD).is_file() or files.checkpoints(where).is_dir():
            steps = sorted(files.checkpoints(where).glob("step-" + "[0-9]" * 8))
            step = str(int(steps[-1].name.removeprefix("step-"))) if steps else "-"
            signs = [one.stat().st_mtime for one in (path, where / files.LOG, files.metrics(where))
                     if one.exists()]  # fmt: skip
            yield Listed(where, _state(where), _result(where), step, max(signs))


def _state(run: Path) -> str:
    from emo.runs import files
    from emo.runs.folder import in_use

    if in_use(run):
        return "training"
    if files.metrics(run).is_file():
        return "finished"
    ended = _read(run / files.EXIT)
    if ended.get("code") == 75:
        return "stopped, saved"
    if ended:
        return f"failed ({ended.get('code')})"
    return "interrupted"


def _result(run: Path) -> str:
    from emo import metrics
    from emo.runs import files

    test = _read(files.metrics(run)).get("parts", {}).get("test")
    if not test or "confusion" not in test:
        return "-"
    return metrics.in_words({name: test[name] for name in ("wa", "ua") if name in test})


def _read(path: Path) -> dict[str, Any]:
    """A JSON file; empty if it is not there or not whole."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _age(then: float) -> str:
    seconds = max(0.0, time.time() - then)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


COMMAND = Command(
    "runs",
    "list run folders with their state, test result, last checkpoint and age",
    arguments,
    run,
    examples=("emo runs", "emo runs runs/sample --json"),
)
