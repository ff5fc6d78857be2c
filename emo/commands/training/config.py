"""`emo config`: an experiment's whole configuration, or what is wrong in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")


def run(args: argparse.Namespace) -> int:
    from emo.config import ExperimentConfig
    from shards.configfile import dump, load

    print(dump(load(ExperimentConfig, args.config, args.overrides)), end="")
    return 0


COMMAND = Command(
    "config",
    "print an experiment's whole configuration, or what is wrong in it",
    arguments,
    run,
    examples=(
        "emo config configs/sample/fusion.yaml",
        "emo config configs/paper/text.yaml optim.lr=1e-5 data.view.seed=2",
    ),
)
