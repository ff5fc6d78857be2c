"""The command line `emo`: its parser. What the commands do stands in `emo.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from emo.commands import COMMANDS, GROUPS
from emo.commands.command import Command
from emo.distributed.launch_files import TRAIN
from shards import __version__
from shards.command_line import CommandParser, parse_words
from shards.errors import run_command_line
from shards.processes import spin_little

EPILOG = f"""\
`emo COMMAND --help` shows a command's options and examples.
Train over several processes with {TRAIN} STRATEGY CONFIG [key=value ...]
"""


def parser() -> argparse.ArgumentParser:
    """The parser of every command in `emo.commands.COMMANDS`."""
    top = CommandParser(
        prog="emo",
        usage="emo COMMAND ...",
        description="Train, evaluate, compare and use speech emotion models.",
        epilog=_listed() + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="emo", help=argparse.SUPPRESS
    )
    for command in COMMANDS.values():
        _add(commands, command)
    return top


def _add(commands: argparse._SubParsersAction, command: Command) -> None:
    one = commands.add_parser(
        command.name,
        description="\n\n".join(filter(None, (command.help, command.more))),
        epilog=command.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(one)


def _listed() -> str:
    """The commands under their headings."""
    lines = []
    for heading, group in GROUPS.items():
        lines += [f"{heading}:", *(f"  {one.name:<10} {one.help}" for one in group), ""]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    spin_little()
    args = parse_words(parser(), arguments, setting_keys)
    command = COMMANDS[args.command]
    if command.own_errors:
        return command.run(args)
    return run_command_line(lambda: command.run(args))


def setting_keys() -> Iterable[tuple[str, ...]]:
    """The dotted keys of an experiment, for mistakes such as `--epochs 3`."""
    from emo.config import ExperimentConfig
    from shards.configfile import all_keys

    return all_keys(ExperimentConfig)


if __name__ == "__main__":
    sys.exit(main())
