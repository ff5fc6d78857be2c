"""`emo export`: a trained run as one folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")


def run(args: argparse.Namespace) -> int:
    from emo.serving.export import export

    export(args.run, args.folder)
    print(f"exported to {args.folder}")
    return 0


COMMAND = Command(
    "export",
    "write a trained run as one folder that loads anywhere",
    arguments,
    run,
    examples=("emo export runs/sample/fusion exported",),
)
