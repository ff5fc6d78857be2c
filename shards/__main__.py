"""The command line of the preprocessing job: `emo-shards`, or `python -m shards`.

Every command imports what it needs when it runs: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from shards import __version__
from shards.command_line import CommandParser, parse_words
from shards.errors import UserError, nearest, run_command_line

BUILD_HELP = """\
Makes every shard of CONFIG that is not there yet and publishes the dataset. Stopped at any moment,
the same command goes on where it was. After the configuration file, in any order:

  task=K tasks=N   make only the shards of array task K of N (from 0); `emo-shards merge` ends it
  workers=W        processes; by default one for each core that may be used
  check=deep       re-read what is there, and rewrite what is broken (check=quick: by its size)
  part.key=value   override a value of the configuration
"""

INIT_HELP = """\
Looks at TABLE (separator, encoding, columns, words of the label, where the recordings lie) and
writes four files beside it: how it is read, what is built, and two trainings. They are a beginning:
look through them, above all the labels.
"""
DESCRIBE_HELP = """\
Reads the tables of the corpus in ROOT as SPEC describes them, and the header of each recording;
prints counts, hours, rates, defects, and what a build would leave out or reject. SPEC may also be
the configuration of a build, for its corpus.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (by default the process' own); return the exit code."""
    options = parse_words(_parser(), arguments, _setting_keys)
    command: Callable[[argparse.Namespace], int] = options.command
    return run_command_line(lambda: command(options))


def _setting_keys() -> Iterable[tuple[str, ...]]:
    from shards.config import ShardConfig
    from shards.configfile import all_keys

    return all_keys(ShardConfig)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="emo-shards", description="Turn a corpus of emotional speech into WebDataset shards."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], summary: str, more: str = ""
    ) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        one = commands.add_parser(
            name, help=summary, description=more or summary, formatter_class=raw
        )
        one.set_defaults(command=command)
        return one

    one = add("build", _build, "make the shards of a configuration", BUILD_HELP)
    one.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, as in configs/shards")
    one.add_argument("settings", nargs="*", default=[], metavar="key=value")
    one = add("merge", _merge, "publish a dataset whose shards were made by array tasks")
    one.add_argument("config", type=Path, metavar="CONFIG")
    more = "tasks=N, and as for build"
    one.add_argument("settings", nargs="*", default=[], metavar="key=value", help=more)
    one = add("verify", _verify, "look for damage in a finished dataset")
    one.add_argument("folder", type=Path, metavar="FOLDER")
    one.add_argument("--deep", action="store_true", help="read every byte of every shard")
    one.add_argument("--workers", type=int, help="processes for --deep; default: all cores")
    one = add("inspect", _inspect, "show a dataset, or one of its samples, in words")
    one.add_argument("folder", type=Path, metavar="FOLDER")
    one.add_argument("key", nargs="?", metavar="KEY", help="a sample's key or an utterance's id")
    one = add("init", _init, "write the files for a table of your own", INIT_HELP)
    one.add_argument("table", type=Path, metavar="TABLE", help="csv, tsv, jsonl or Parquet")
    one.add_argument("--folder", type=Path, help="where the files go; default: beside the table")
    one = add("describe", _describe, "look at a corpus before it is built", DESCRIBE_HELP)
    one.add_argument("spec", type=Path, metavar="SPEC", help="YAML file, as in configs/corpora")
    one.add_argument("root", type=Path, metavar="ROOT", help="the corpus' folder")
    one.add_argument("--deep", action="store_true", help="decode every recording")
    one.add_argument("--audio-root", type=Path, help="where audio paths begin, if not at ROOT")
    one.add_argument("--absolute-paths", action="store_true", help="recordings may lie anywhere")
    one = add("sample-corpus", _sample_corpus, "write a spoken corpus whose answers are known")
    one.add_argument("root", type=Path, metavar="ROOT")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--dialogues", type=int, default=150)
    return parser


def _build(options: argparse.Namespace) -> int:
    words, overrides = _words(options.settings, ("task", "tasks", "workers", "check"))
    task, tasks = _number(words, "task", 0), _number(words, "tasks", 1)
    workers, check = _number(words, "workers", 1), words.get("check", "quick")
    if (task is None) != (tasks is None):
        raise UserError("task=K and tasks=N belong together: task 0 to N-1 of N")
    if check not in ("quick", "deep"):
        raise UserError(f"check={check}: use check=quick or check=deep")

    from shards.build.job import build
    from shards.config import ShardConfig
    from shards.configfile import load
    from shards.store.describe import describe_dataset

    config = load(ShardConfig, options.config, overrides)
    manifest = build(config, task, tasks or 1, workers, deep=check == "deep")
    if manifest is None:
        print(f"array task {task} of {tasks} is done; after the last: emo-shards merge CONFIG")
    else:
        print(describe_dataset(manifest))
        print(f"published   {config.output.folder}")
    return 0


def _merge(options: argparse.Namespace) -> int:
    words, overrides = _words(options.settings, ("tasks",))
    tasks = _number(words, "tasks", 1)

    from shards.build import claim
    from shards.build.merge import merge
    from shards.config import ShardConfig
    from shards.configfile import load
    from shards.store.describe import describe_dataset

    config = load(ShardConfig, options.config, overrides)
    folder = config.output.folder
    build_file = claim.load(folder)
    claim.check_settings(folder, build_file, config)
    limits = config.output.max_rejected, tasks, config.max_unknown
    print(describe_dataset(merge(folder, build_file, *limits)))
    print(f"published   {folder}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers {options.workers}: give at least 1")

    from shards.store.verify import check_dataset

    manifest = check_dataset(options.folder, options.deep, options.workers)
    how = "every byte was read" if options.deep else "sizes, counts and hashes (not --deep)"
    print(
        f"{options.folder}: {manifest.summary.samples} samples in {len(manifest.shards)} shards "
        f"are whole; {how}; the corpus they were made of was not read"
    )
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from shards.store.describe import describe_dataset, describe_sample
    from shards.store.index import open_dataset

    dataset = open_dataset(options.folder)
    if options.key is None:
        print(describe_dataset(dataset.manifest))
    else:
        print(describe_sample(dataset, options.key))
    return 0


def _init(options: argparse.Namespace) -> int:
    from shards.build.starter.start import start

    print(start(options.table, options.folder))
    return 0


def _describe(options: argparse.Namespace) -> int:
    from shards.build.survey import corpus_config, describe, survey

    changes = {"audio_root": options.audio_root, "absolute_paths": options.absolute_paths}
    config = corpus_config(options.spec, options.root, changes)
    print(describe(survey(config, options.deep)))
    return 0


def _sample_corpus(options: argparse.Namespace) -> int:
    from shards.progress import progress
    from shards.sample.corpus import write_corpus

    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        advance(done - shown)
        shown = done

    with progress("sample corpus", options.dialogues, "dialogues") as advance:
        made = write_corpus(options.root, options.seed, options.dialogues, show)
    print(f"{options.root}: {'written' if made else 'it is there already'}")
    return 0


def _words(settings: Sequence[str], known: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Separate the command's own `name=value` words from overrides of the configuration."""
    words, overrides = {}, []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if equals and name in words:
            raise UserError(f"{name}= is given twice; it takes one value")
        if equals and name in known:
            words[name] = value
        elif equals and (near := nearest(name, known, cutoff=0.75)):
            raise UserError(f"{name}={value}: did you mean {near}={value}?")
        else:
            overrides.append(setting)
    return words, overrides


def _number(words: dict[str, str], name: str, least: int) -> int | None:
    if name not in words:
        return None
    if not re.fullmatch(r"\d+", words[name]) or int(words[name]) < least:
        raise UserError(f"{name}={words[name]}: give a whole number from {least} up")
    return int(words[name])


if __name__ == "__main__":
    sys.exit(main())
