"""`emo fields`: every setting in words, made from the code."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emo.commands.command import Command
from shards.errors import UserError, suggestion

if TYPE_CHECKING:
    from emo.settings import Setting


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", metavar="PART", help="a section or key, such as optim")
    parser.add_argument("--shards", action="store_true", help="the settings of emo-shards build")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")


def run(args: argparse.Namespace) -> int:
    from emo.config import ExperimentConfig
    from emo.settings import settings_of
    from shards.config import ShardConfig

    every = settings_of(ShardConfig if args.shards else ExperimentConfig)
    chosen = [one for one in every if args.part is None or _belongs(one.key, args.part)]
    if not chosen:
        names = [name for one in every for name in (one.key, one.key.rpartition(".")[2])]
        raise UserError(f"there is no setting {args.part!r}{suggestion(args.part, names)}")
    print(markdown(chosen) if args.markdown else plain(chosen), end="")
    return 0


def _belongs(key: str, part: str) -> bool:
    """Whether `part` is the key, a section that it is in, or its last word."""
    return key == part or key.startswith(f"{part}.") or key.rpartition(".")[2] == part


def plain(settings: Sequence[Setting]) -> str:
    """The settings as text: a line with default and allowed values, and the meaning below it."""
    width = min(shutil.get_terminal_size((100, 20)).columns, 110)
    lines = []
    for one in settings:
        if one.allowed.startswith("section"):
            lines.append(f"\n[{one.key}]")
        else:
            unit = f" [{one.unit}]" if one.unit else ""
            lines.append(f"{one.key} = {one.default}{unit}   ({one.allowed})")
        lines += textwrap.wrap(one.meaning, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def markdown(settings: Sequence[Setting]) -> str:
    """The settings as a table."""
    lines = ["| setting | default | unit | allowed | meaning |", "|---|---|---|---|---|"]
    for one in settings:
        cells = (f"`{one.key}`", f"`{one.default}`", one.unit, one.allowed, one.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


COMMAND = Command(
    "fields",
    "list every setting with its default, unit, allowed values and meaning",
    arguments,
    run,
    examples=("emo fields", "emo fields optim", "emo fields lr", "emo fields --shards audio"),
)
