"""`emo demo`: a page on this machine to try a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or an exported one")
    parser.add_argument("--port", type=int, default=8420, help="of localhost; 0: any (8420)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")


def run(args: argparse.Namespace) -> int:
    print(f"reading {args.run}", file=sys.stderr, flush=True)
    from emo.serving.demo.server import Demo
    from emo.serving.loading import open_model
    from emo.serving.predict import Predictor

    model = open_model(args.run, args.device)
    if not isinstance(model, Predictor):
        raise UserError(f"{args.run} is a model over dialogues: give the run of a model of turns")
    try:
        server = Demo(model, args.run.name or str(args.run), args.port)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {args.port} cannot be used ({error}): give another --port") from None
    print(f"open {server.address} on this machine; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


COMMAND = Command(
    "demo",
    "a page on this machine to try a model: record, drop a file, or type",
    arguments,
    run,
    examples=("emo demo runs/sample/fusion", "emo demo exported --port 0"),
)
