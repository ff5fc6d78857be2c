"""What a command of `emo` is: a row of the table in `emo.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: what a person types.
        help: one line for the list of commands.
        arguments: adds its arguments to a parser; imports nothing heavy.
        run: does it and returns the exit code; imports inside what it needs. A `UserError` becomes
            a message and its exit code.
        examples: whole command lines, shown by `--help`.
        more: what `--help` says beyond `help`.
        own_errors: `run` reports its errors itself.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: Sequence[str]
    more: str = ""
    own_errors: bool = False

    @property
    def epilog(self) -> str:
        """The end of its help: the examples."""
        return "\n".join(["examples:", *(f"  {line}" for line in self.examples)])
