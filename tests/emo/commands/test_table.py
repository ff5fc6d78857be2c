"""The table of commands: each is listed, helps with examples that parse, and mixes its words."""

import shlex
from pathlib import Path

import pytest

from emo.__main__ import parser, setting_keys
from emo.commands import COMMANDS, GROUPS
from shards.command_line import parse_words


def words(*arguments):
    return parse_words(parser(), arguments, setting_keys)


def shown_by(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        words(*arguments)
    return caught.value.code, capsys.readouterr()


def test_the_help_lists_every_command_under_its_heading(capsys):
    code, shown = shown_by(capsys, "--help")
    assert code == 0
    assert len(COMMANDS) == sum(map(len, GROUPS.values()))  # no name twice
    for heading, group in GROUPS.items():
        section = shown.out.split(f"{heading}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == [one.name for one in group]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_shown_and_parse(name, capsys):
    code, shown = shown_by(capsys, name, "--help")
    assert code == 0
    examples = [line.strip() for line in shown.out.split("examples:\n")[1].splitlines()]
    own = [line for line in examples if line.startswith("emo ")]
    assert own
    commands = [words(*shlex.split(line.partition(" | ")[0])[1:]).command for line in own]
    assert name in commands  # and perhaps the one that goes on with its result


def test_an_unknown_command_is_guessed(capsys):
    code, shown = shown_by(capsys, "evla")
    assert code == 2
    assert "there is no 'evla': did you mean 'eval'?" in shown.err


def test_options_stand_anywhere_between_words():
    args = words("compare", "a", "--part", "val", "b", "--csv", "t.csv", "c")
    assert args.runs == [Path("a"), Path("b"), Path("c")]
    assert (args.part, args.csv) == ("val", Path("t.csv"))
    args = words("features", "a", "--cross-fit", "2", "b", "new")
    assert (args.runs, args.folder, args.cross_fit) == ([Path("a"), Path("b")], Path("new"), 2)
