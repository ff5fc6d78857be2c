"""`emo crossval`: every fold of a protocol, or several seeds, in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fold=K runs one fold")
    parser.add_argument("--strategy", default="cpu", help="as for launch/train.sh (cpu)")
    parser.add_argument("--seeds", type=int, metavar="K", help="K random splits instead of folds")


def run(args: argparse.Namespace) -> int:
    from emo.comparison.crossval import crossval

    only = [o.removeprefix("fold=") for o in args.overrides if o.startswith("fold=")]
    rest = [o for o in args.overrides if not o.startswith("fold=")]
    if only and not only[-1].isdigit():
        raise UserError(f"fold={only[-1]}: give the fold's number, counted from 0")
    return crossval(
        args.config,
        rest,
        strategy=args.strategy,
        seeds=args.seeds,
        only=int(only[-1]) if only else None,
    )


COMMAND = Command(
    "crossval",
    "train every fold of a protocol (or several seeds) and aggregate",
    arguments,
    run,
    examples=(
        "emo crossval configs/paper/text.yaml data.view.protocol=leave_one_session_out",
        "emo crossval configs/sample/text.yaml --seeds 3 run=runs/seeds",
        "emo crossval configs/paper/text.yaml fold=2 --strategy zero2",
    ),
)
