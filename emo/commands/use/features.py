"""`emo features`: what trained branches say of every turn, as a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a new folder: a dataset of vectors"
    )
    parser.add_argument(
        "--cross-fit", type=int, default=0, metavar="K", help="train K times, each time without a "
        "K-th of the training dialogues, whose scores then come from that run (scores only)",
    )  # fmt: skip
    parser.add_argument("--strategy", default="cpu", help="of those runs, as of launch/train.sh")


def run(args: argparse.Namespace) -> int:
    from emo.serving.turn_vectors import write_vectors

    if args.cross_fit == 1 or args.cross_fit < 0:
        raise UserError(f"--cross-fit {args.cross_fit}: give at least 2")
    manifest = write_vectors(args.runs, args.folder, args.cross_fit, args.strategy)
    widths = manifest.settings["vectors"]["widths"]
    print(
        f"{manifest.summary.samples} turns → {args.folder}: "
        + ", ".join(f"{name} of {width}" for name, width in widths.items())
    )
    return 0


COMMAND = Command(
    "features",
    "write trained branches' outputs for every turn, for context models",
    arguments,
    run,
    examples=(
        "emo features runs/sample/text runs/sample/audio data/vectors",
        "emo features runs/sample/text data/vectors --cross-fit 5",
    ),
)
