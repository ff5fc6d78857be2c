"""`emo export`: a trained run as one folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--onnx", action="store_true", help="also write each branch as onnx/NAME.onnx (extra onnx)"
    )


def run(args: argparse.Namespace) -> int:
    from emo.serving.export import export

    for name, difference in export(args.run, args.folder, args.onnx).items():
        print(f"onnx/{name}.onnx differs from torch by at most {difference:.1e}")
    print(f"exported to {args.folder}")
    return 0


COMMAND = Command(
    "export",
    "write a trained run as one folder that loads anywhere",
    arguments,
    run,
    examples=("emo export runs/sample/fusion exported", "emo export runs/sample/audio out --onnx"),
)
