"""`emo report`: finished runs as a page, as Markdown or as a LaTeX table."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "-o", "--output", type=Path, action="append", metavar="FILE",
        help="FILE.html, FILE.md or FILE.tex; may be given several times (report.html)",
    )  # fmt: skip
    parser.add_argument("--part", default="test", help="val or test (test)")
    parser.add_argument("--title", default="Speech emotion recognition", help="of the report")


def run(args: argparse.Namespace) -> int:
    from emo.report.report import report

    report(args.runs, args.output or [Path("report.html")], args.part, args.title)
    return 0


COMMAND = Command(
    "report",
    "one page about finished runs: data, scores, curves, the hardest turns, cost",
    arguments,
    run,
    examples=(
        "emo report runs/sample/text runs/sample/audio runs/sample/fusion -o report.html",
        "emo report runs/cv -o report.html -o report.md -o table.tex",
    ),
    more="The page asks nothing from outside: it can be sent as it is. Runs must be comparable, as "
    "for `emo compare`; folders of cross-validations are reported with one another.",
)
