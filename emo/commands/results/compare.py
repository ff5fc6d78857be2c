"""`emo compare`: a table of runs on the same test turns."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--part", default="test", help="val or test (test)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV")


def run(args: argparse.Namespace) -> int:
    from emo.comparison.compare import compare

    compare(args.runs, args.part, markdown=args.markdown, csv=args.csv)
    return 0


COMMAND = Command(
    "compare",
    "a table of runs on the same test turns, with ceilings where known",
    arguments,
    run,
    examples=(
        "emo compare runs/sample/text runs/sample/audio runs/sample/fusion",
        "emo compare runs/sample/* --markdown table.md --csv table.csv",
    ),
)
