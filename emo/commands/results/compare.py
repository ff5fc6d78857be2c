"""`emo compare`: a table of runs on the same test turns."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--part", default="test", help="val or test (test)")
    parser.add_argument(
        "--matrix", action="store_true", help="runs by the datasets of emo eval --on"
    )
    parser.add_argument(
        "--metric", default="ua", choices=("wa", "ua", "weighted_f1", "macro_f1"),
        help="what --matrix shows (ua)",
    )  # fmt: skip
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV")


def run(args: argparse.Namespace) -> int:
    if args.matrix:
        from emo.comparison.matrix import matrix

        matrix(args.runs, args.metric, args.markdown)
        return 0
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
        "emo compare --matrix runs/emodb runs/meld --metric wa",
    ),
)
