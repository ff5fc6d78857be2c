"""What an update of a changed corpus costs, against the build of the same corpus from nothing.

Takes a built dataset's corpus, changes copies of it in the ways that corpora change, and times
`emo-shards build ... output.update=yes` beside a whole build, both as command lines, in one run.

    python -m benchmarks.updating --corpus data/sample/corpus --work /scratch/updating
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from shards.store.index import load_manifest, open_dataset
from shards.store.read import ShardReader

RESULTS = Path(__file__).parent / "results" / "update.md"
ADDED = 100  # turns


def run(config: Path, corpus: Path, folder: Path, *words: str) -> float:
    """Build `folder` from `corpus` by the command line."""
    command = [sys.executable, "-m", "shards", "build", str(config)]
    command += [f"corpus.root={corpus}", f"output.folder={folder}", *words]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds


def correct_a_label(corpus: Path) -> str:
    """One label of the corpus is corrected; its votes stay."""
    path = sorted(corpus.glob("Session*/dialog/EmoEvaluation/*.txt"))[7]
    text = path.read_text()
    path.write_text(text.replace("\tneu\t", "\tsad\t", 1))
    return "one label corrected"


def replace_a_recording(corpus: Path) -> str:
    """One recording is played backwards: as many bytes, another sound."""
    path = sorted(corpus.glob("Session*/sentences/wav/*/*.wav"))[1234]
    wave, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, wave[::-1], rate, subtype="PCM_16")
    return f"one recording replaced ({path.stem})"


def take_out(corpus: Path) -> int:
    """Take about `ADDED` turns, whole dialogues, out of the corpus; how many there were."""
    count = 0
    for labels in sorted(corpus.glob("Session*/dialog/EmoEvaluation/*.txt"))[::37]:
        if count >= ADDED:
            break
        count += sum(line.startswith("[") for line in labels.read_text().splitlines())
        labels.unlink()
    return count


def differing(before: Path, after: Path) -> set[str]:
    """Turns of which a sample is not the same in both datasets."""
    members = ("json", "tokens", "logmel")
    sides = [(open_dataset(folder), ShardReader(folder, members)) for folder in (before, after)]
    rows = {key: row for row, key in enumerate(sides[0][0].column("key"))}
    found = set()
    keys, turns = sides[1][0].column("key"), sides[1][0].column("utterance")
    for row, (key, turn) in enumerate(zip(keys, turns, strict=True)):
        new = sides[1][1].read(row)
        old = sides[0][1].read(rows[key]) if key in rows else {}
        if any(name not in old or not np.array_equal(old[name], new[name]) for name in new):
            found.add(str(turn))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the sample corpus")
    parser.add_argument("--config", type=Path, default=Path("configs/shards/sample.yaml"))
    parser.add_argument("--work", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args()
    config, corpus, work = options.config.resolve(), options.corpus.resolve(), options.work
    work.mkdir(parents=True)
    whole = run(config, corpus, work / "whole")
    lines = [
        row("build from nothing", whole, whole, load_manifest(work / "whole").summary.utterances)
    ]
    changes: tuple[Callable[[Path], str], ...] = (correct_a_label, replace_a_recording)
    for number, change in enumerate(changes):
        place = work / str(number)
        shutil.copytree(corpus, place / "corpus")
        shutil.copytree(work / "whole", place / "shards")
        what = change(place / "corpus")
        cost = run(config, place / "corpus", place / "shards", "output.update=yes")
        other = differing(work / "whole", place / "shards")
        print(what, cost, sorted(other), flush=True)
        lines.append(row(what, cost, whole, len(other)))
        shutil.rmtree(place)
    place = work / "added"
    shutil.copytree(corpus, place / "corpus")
    count = take_out(place / "corpus")
    run(config, place / "corpus", place / "shards")
    shutil.rmtree(place / "corpus")
    cost = run(config, corpus, place / "shards", "output.update=yes")
    lines.append(row(f"{count} turns added", cost, whole, count))
    report(lines, config)
    shutil.rmtree(work)


def row(what: str, cost: float, whole: float, turns: int) -> str:
    line = f"| {what} | {cost:.2f} | {100 * cost / whole:.1f} % | {turns} |"
    print(line, flush=True)
    return line


def report(lines: list[str], config: Path) -> None:
    load = os.getloadavg()
    RESULTS.write_text(
        "\n".join(
            [
                "# Updating a dataset whose corpus has changed",
                "",
                f"`python -m benchmarks.updating`, {datetime.date.today()}, {platform.machine()},",
                f"{len(os.sched_getaffinity(0))} cores, load {load[1]:.1f}; `{config.name}`.",
                "Command lines, from start to end, with the default workers. The update reads the",
                "corpus, hashes every recording, and publishes a new version.",
                "",
                "| what | wall s | of the build | turns that differ |",
                "|---|---|---|---|",
                *lines,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
