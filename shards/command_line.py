"""What the command lines `emo` and `emo-shards` do alike beyond argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from shards.errors import suggestion


class Once(argparse.Action):
    """Stores an option's value; the same option a second time is an error.

    argparse would keep the last value and drop the others without a word.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        given = vars(namespace).setdefault("_given", set())
        if self.dest in given:
            parser.error(f"{option} is given twice; it takes one value")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class CommandParser(argparse.ArgumentParser):
    """A parser, of a program or a command: options are named in full, given once, and anywhere."""

    _mixing = False

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"allow_abbrev": False}))
        self.register("action", None, Once)
        self.register("action", "store", Once)
        self.set_defaults(parser=self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, with options between the words of one list, too."""
        # argparse itself gives `A --part val B` only A; its intermixed parsing calls this method.
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            message = f"there is no {value!r}{suggestion(str(value), known)}"
            raise argparse.ArgumentError(action, f"{message} (known: {', '.join(known)})")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.format_usage()}error: {message}\n")


def parse_words(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    keys: Callable[[], Iterable[tuple[str, ...]]],
) -> Any:
    """`arguments` parsed, options and words in any order; a mistake is shown with its command.

    A command with settings has `config` and then any number of words, named `overrides` or
    `settings`: the first word that is no key=value is the configuration.

    Args:
        keys: gives the configuration's keys, called where `--epochs 3` is to be explained.
    """
    args, rest = parser.parse_known_args(arguments)
    try:
        Path.cwd()
    except FileNotFoundError:  # worker processes could not be started
        parser.error("the folder that this shell stands in is gone: `cd` to one that is there")
    command: argparse.ArgumentParser = args.parser
    name = next((one for one in ("overrides", "settings") if hasattr(args, one)), None)
    for option in rest:
        if name is None or option.startswith("-"):
            hint = _as_setting(rest, keys()) if name else ""
            command.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if name is None:
        return args
    words = [str(args.config), *getattr(args, name), *rest]
    place = next((n for n, word in enumerate(words) if not _is_setting(word)), 0)
    args.config = Path(words.pop(place))
    setattr(args, name, words)
    return args


def _is_setting(word: str) -> bool:
    return "=" in word and not Path(word).is_file()


def _as_setting(rest: Sequence[str], keys: Iterable[tuple[str, ...]]) -> str:
    """What `--epochs 3` or `--epochs=3` was meant to be."""
    name, equals, value = rest[0].lstrip("-").replace("-", "_").partition("=")
    if not equals:
        value = rest[1] if len(rest) > 1 and not rest[1].startswith("-") else "VALUE"
    meant = [".".join(key) for key in keys if name in (key[-1], ".".join(key))]
    example = " or ".join(f"{key}={value}" for key in meant[:3]) or "part.key=value"
    return f"; a setting is a word without dashes: {example}"
