"""`emo eval`: trained runs' best checkpoints, evaluated again."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders; data.shards=NEW after the data moved"
    )
    parser.add_argument(
        "--on", type=Path, action="append", default=[], metavar="SHARDS",
        help="evaluate on another dataset (corpus, noise, language); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--prior", default="trained", choices=("trained", "uniform", "test"),
        help="with --on: correct probabilities to these class shares (trained: not at all)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from emo.evaluation.reevaluate import evaluate_again

    overrides = [word for word in args.runs if "=" in word and not Path(word).is_dir()]
    runs = [Path(word) for word in args.runs if word not in overrides]
    if not runs:
        raise UserError("emo eval: name at least one run folder besides the settings")
    if args.on:
        from emo.evaluation.elsewhere.evaluate import evaluate_on

        if overrides:
            raise UserError(f"emo eval --on takes no settings: {' '.join(overrides)}")
        for one in runs:
            for shards in args.on:
                evaluate_on(one, shards, args.prior)
        return 0
    for one in runs:
        evaluate_again(one, overrides)
    return 0


COMMAND = Command(
    "eval",
    "evaluate trained runs' best checkpoints again, rewrite metrics.json",
    arguments,
    run,
    examples=(
        "emo eval runs/sample/text",
        "emo eval runs/sample/* data.shards=/new/place/shards",
        "emo eval runs/sample/text --on data/meld/shards --prior test",
    ),
)
