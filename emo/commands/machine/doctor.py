"""`emo doctor`: what this machine has, and what to do about what is missing."""

from __future__ import annotations

import argparse

from emo.commands.command import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from emo.commands.machine.checks import CHECKS

    missing = 0
    for check in CHECKS:
        for one in check():
            missing += one.state == "missing"
            if args.json:
                print(json.dumps(asdict(one)), flush=True)
                continue
            print(f"{one.state:<8} {one.what:<22} {one.found}", flush=True)
            if one.state != "ok" and one.remedy:
                print(f"{'':<8} {'':<22} → {one.remedy}", flush=True)
    return 1 if missing else 0


COMMAND = Command(
    "doctor",
    "say what this machine has (GPUs, memory, disk, limits) and what to do about what is missing",
    arguments,
    run,
    examples=("emo doctor", "emo doctor --json"),
)
