"""`emo predict`: class probabilities of recordings and transcripts, one or many."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emo.commands.command import Command
from shards.errors import UserError, suggestion

if TYPE_CHECKING:
    from emo.serving.items import Item, Refusal
    from emo.serving.many.job import Job

EXIT_SOME_REFUSED = 3

MORE = """\
An INPUT is a recording, a folder of recordings, a table (.csv, .tsv, .jsonl, .parquet), or - for
JSON lines from standard input. A table has columns named audio or text, and may have id, start, end
(seconds of the recording), dialogue and speaker (for bc-LSTM and ICON) and label (then scores are
printed as well). Paths in a table are relative to it. What cannot be predicted is reported and the
others go on: exit code 3. Times and probabilities go to standard output or --output, all else to
standard error.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run folder, or an exported one")
    add("inputs", nargs="*", metavar="INPUT", help="recordings, folders, tables, or -")
    add("--audio", metavar="FILE", help="one recording, to be given with --text")
    add("--text", metavar="WORDS", help="what is said in it, or alone")
    add(
        "--format",
        default="table",
        metavar="F",
        help="table, csv, json (JSON lines) or bare (table)",
    )
    add(
        "--json",
        action="store_true",
        help="JSON lines; of --audio and --text the probabilities alone",
    )
    add("--output", type=Path, metavar="FILE", help="write there, all or nothing")
    add("--window", type=float, metavar="S", help="predict every recording in windows of S seconds")
    add("--every", type=float, metavar="S", help="seconds between windows (half a window)")
    add("--rttm", type=Path, metavar="FILE", help="also write the windows' labels as RTTM lines")
    add("--picture", type=Path, metavar="FILE.svg", help="also draw the track of one recording")
    add("--batch", type=int, default=64, metavar="N", help="inputs in a batch (64)")
    add("--workers", type=int, metavar="N", help="threads that read and prepare (one a core)")
    shares = "the class shares to assume, trained or uniform (as evaluated)"
    add("--prior", choices=("trained", "uniform"), help=shares)
    add("--device", default="auto", help="auto, cpu or cuda (auto: a GPU if there is one)")


def run(args: argparse.Namespace) -> int:
    given = _inputs(args)
    if args.json:
        args.format = "json" if args.inputs else "bare"
    _check(args)
    print(f"reading {args.run}", file=sys.stderr, flush=True)
    from emo.serving.files.outputs import FORMATS
    from emo.serving.loading import open_model
    from emo.serving.many.job import Job

    if args.format not in FORMATS:
        known = ", ".join(FORMATS)
        hint = suggestion(args.format, FORMATS)
        raise UserError(f"--format {args.format}: give one of {known}{hint}")
    model = open_model(args.run, args.device)
    if args.prior is not None:
        model.assume(args.prior)
    job = Job(model, batch=args.batch, workers=args.workers)
    with _output(args.output) as file:
        write = FORMATS[args.format](file, model.classes)
        for result in job.results(given, _windows(args)):
            write(result)
    _tracks(args, job)
    job.say_summary()
    return EXIT_SOME_REFUSED if job.refused else 0


def _inputs(args: argparse.Namespace) -> Iterator[Item | Refusal]:
    if args.inputs and (args.audio or args.text):
        raise UserError("give INPUTs, or --audio and --text for one input, not both")
    if not (args.inputs or args.audio or args.text):
        raise UserError("give recordings, a folder, a table, - for JSON lines, --audio or --text")
    from emo.serving.files.inputs import items_of
    from emo.serving.items import Item

    if args.inputs:
        return items_of(args.inputs)
    name = args.audio or "text"
    return iter([Item(name, Path(args.audio) if args.audio else None, args.text)])


def _check(args: argparse.Namespace) -> None:
    for name in ("every", "rttm", "picture"):
        if getattr(args, name) is not None and args.window is None:
            raise UserError(f"--{name} belongs to windows: add --window SECONDS")
    for name in ("batch", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give at least 1")
    if args.picture is not None and args.picture.suffix != ".svg":
        raise UserError(f"--picture {args.picture}: pictures are SVG; name it .svg")


def _windows(args: argparse.Namespace) -> tuple[float, float] | None:
    if args.window is None:
        return None
    return args.window, args.every if args.every is not None else args.window / 2


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator:
    if path is None:
        yield sys.stdout
        return
    from shards import atomic

    draft = atomic.temporary(path)
    try:
        with atomic.disk_errors(path):
            with draft.open("w", encoding="utf-8") as file:
                yield file
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _tracks(args: argparse.Namespace, job: Job) -> None:
    from emo.serving.files import tracks
    from shards import atomic

    if args.rttm is not None:
        atomic.write(args.rttm, tracks.rttm(job.segments()).encode())
    if args.picture is not None:
        names = job.recordings()
        if len(names) != 1:
            raise UserError(f"--picture draws one recording, not {len(names)}: give one")
        atomic.write(args.picture, tracks.picture(job.track, job.model.classes).encode())


COMMAND = Command(
    "predict",
    "class probabilities of recordings, transcripts, or both: one, many, or long ones in windows",
    arguments,
    run,
    examples=(
        'emo predict runs/sample/fusion --audio turn.wav --text "oh, great"',
        "emo predict runs/sample/audio recordings/ more.mp3 --format csv --output emotions.csv",
        "emo predict runs/sample/fusion turns.csv --format json",
        "emo predict runs/sample/audio interview.wav --window 4 --rttm interview.rttm "
        "--picture interview.svg",
        "emo predict runs/sample/text - --json < lines.jsonl",
    ),
    more=MORE,
)
