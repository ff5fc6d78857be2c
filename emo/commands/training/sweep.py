"""`emo sweep`: a search over settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the experiment to start from")
    parser.add_argument("space", type=Path, metavar="SPACE", help="a YAML file: trials and ranges")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="run=FOLDER is the sweep")
    parser.add_argument("--strategy", default="cpu", help="as for launch/train.sh (cpu)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at the same time")


def run(args: argparse.Namespace) -> int:
    from emo.search.sweep import sweep

    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: give at least 1")
    return sweep(args.config, args.space, args.overrides, strategy=args.strategy, jobs=args.jobs)


COMMAND = Command(
    "sweep",
    "search over settings: train trials of a space, stop the hopeless ones, one table",
    arguments,
    run,
    more="It may be stopped or killed at any moment, and goes on when it is started again. Any "
    "number of processes on nodes that share the folder may work on one sweep.",
    examples=(
        "emo sweep configs/sample/text.yaml configs/spaces/sample-text.yaml run=runs/sweep",
        "emo sweep CONFIG SPACE --strategy gpu --jobs 4",
    ),
)
