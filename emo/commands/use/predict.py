"""`emo predict`: class probabilities of recordings and transcripts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from emo.commands.command import Command
from shards.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or an exported one")
    parser.add_argument("--audio", type=Path, help="an audio file")
    parser.add_argument("--text", help="what is said")
    parser.add_argument(
        "--prior", choices=("trained", "uniform"), help="the class shares to assume (as evaluated)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from emo.serving.predict import Predictor

    if args.audio is None and args.text is None:
        raise UserError("give --audio FILE, --text WORDS, or both")
    exported = (args.run / "model.safetensors").is_file()
    load = Predictor.from_export if exported else Predictor.from_run
    predictor = load(args.run)
    if args.prior is not None:
        predictor.assume(args.prior)
    probabilities = predictor.predict(args.audio, args.text)
    if predictor.remark and args.audio is not None:
        print(f"note: {predictor.remark}", file=sys.stderr)
    if args.json:
        print(json.dumps(probabilities))
    else:
        for name, probability in sorted(probabilities.items(), key=lambda item: -item[1]):
            print(f"{name:<14} {probability:.4f}")
    return 0


COMMAND = Command(
    "predict",
    "class probabilities for one recording, one transcript, or both",
    arguments,
    run,
    examples=('emo predict runs/sample/fusion --audio turn.wav --text "oh, great"',),
)
