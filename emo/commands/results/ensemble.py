"""`emo ensemble`: several finished runs as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished runs")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the result")
    parser.add_argument(
        "--join", choices=("probabilities", "logits", "stacked"), default="probabilities",
        help="the mean of either, or a head fitted on validation (probabilities)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from emo.evaluation.posthoc.ensemble import ensemble
    from emo.metrics import in_words

    result = ensemble(args.runs, args.folder, args.join)
    for part, found in result["parts"].items():
        print(f"{part} ({found['n']} utterances): {in_words(found)}")
    print(f"→ {args.folder}")
    return 0


COMMAND = Command(
    "ensemble",
    "join the predictions of several runs: a mean, or a head fitted on validation",
    arguments,
    run,
    examples=(
        "emo ensemble runs/seed1 runs/seed2 runs/seed3 --folder runs/three",
        "emo ensemble runs/text runs/audio --join stacked --folder runs/stacked",
        "emo compare runs/text runs/audio runs/stacked",
    ),
)
