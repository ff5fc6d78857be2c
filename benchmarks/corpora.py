"""How long a large corpus takes to be read: a made release of MSP-Podcast, with every row.

Writes the tree of a release as its readme describes it (labels_consensus.csv, labels.txt with five
to nine raters a turn, a transcript a turn, a file for each recording) and reads it with the shipped
spec in a process of its own, against a plain read of the same bytes: every table line and every
transcript, and one `stat` a recording. All is in the page cache.

    python benchmarks/corpora.py [--rows 268000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SPEC = Path(__file__).parent.parent / "configs/corpora/msp_podcast.yaml"
# Shares of release 2.0: what the consensus says, and the parts.
CLASSES = {"A": 35860, "C": 5585, "D": 2743, "F": 1543, "H": 58284, "N": 78717, "S": 24229,
           "U": 5845, "O": 3719, "X": 48180}  # fmt: skip
PARTS = {"Train": 169190, "Development": 34399, "Test1": 46294, "Test2": 14822}
WORDS = {"A": "Angry", "C": "Contempt", "D": "Disgust", "F": "Fear", "H": "Happy", "N": "Neutral",
         "S": "Sad", "U": "Surprise", "O": "Other-bored"}  # fmt: skip
HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
SPEAKERS = 3641


def make(root: Path, rows: int, seed: int = 1) -> None:
    """Write a release of `rows` turns; recordings are a header and silence, of various lengths."""
    rng = np.random.default_rng(seed)
    for folder in ("Audios", "Labels", "Transcripts"):
        (root / folder).mkdir(parents=True)
    classes, parts = _drawn(rng, CLASSES, rows), _drawn(rng, PARTS, rows)
    speakers = rng.integers(0, SPEAKERS, rows)
    sizes = rng.integers(88_000, 352_000, rows)  # 2.75 to 11 s of 16-bit sound at 16 kHz
    raters = rng.integers(5, 10, rows)
    letters = list(WORDS)
    with (root / "Labels/labels_consensus.csv").open("w") as consensus, (
        root / "Labels/labels.txt"
    ).open("w") as detailed:  # fmt: skip
        consensus.write(HEADER + "\n")
        for n in range(rows):
            stem = f"MSP-PODCAST_{n // 400:04d}_{n % 400:04d}"
            means = rng.uniform(1, 7, 3)
            who = "Unknown" if n % 19 == 0 else str(speakers[n])
            gender = ("Male", "Female", "Unknown")[n % 3]
            act, val, dom = (f"{mean:.4f}" for mean in means)
            consensus.write(
                f"{stem}.wav,{classes[n]},{act},{val},{dom},{who},{gender},{parts[n]}\n"
            )
            detailed.write(f"{stem}.wav; {classes[n]}; A:{act}; V:{val}; D:{dom};\n")
            for rater in range(raters[n]):
                # Most hear what the consensus says, some another emotion, some write their own.
                letter = classes[n] if classes[n] != "X" and rater % 3 else letters[(n + rater) % 9]
                worker = (n * 7 + rater) % 13278
                detailed.write(
                    f"WORKER{worker:08d}; {WORDS[letter]}; Concerned,{WORDS['S']}; "
                    f"A:{1 + n % 7}.000000; V:{1 + rater % 7}.000000; D:4.000000;\n"
                )
            detailed.write("\n")
            (root / f"Transcripts/{stem}.txt").write_text(f"This is what was said in turn {n}.\n")
            with (root / f"Audios/{stem}.wav").open("wb") as audio:
                audio.write(b"RIFF" + n.to_bytes(8, "little"))
                audio.truncate(int(sizes[n]))


def _drawn(rng: np.random.Generator, shares: dict[str, int], rows: int) -> list[str]:
    """`rows` keys in the proportions of `shares`, each at least once."""
    total = sum(shares.values())
    keys = [key for key, share in shares.items() for _ in range(max(1, share * rows // total))]
    keys = (keys + [next(iter(shares))] * rows)[:rows]
    return [keys[place] for place in rng.permutation(rows)]


def read_plainly(root: Path) -> int:
    """Every line of the tables, every transcript, and one `stat` a recording."""
    lines = 0
    for table in (root / "Labels").iterdir():
        with table.open() as file:
            lines += sum(len(line.split(";")) > 0 for line in file)
    for entry in os.scandir(root / "Transcripts"):
        with open(entry.path, encoding="utf-8") as file:
            file.read()
    return lines + sum(entry.stat().st_size > 0 for entry in os.scandir(root / "Audios"))


def read_with_spec(root: Path) -> int:
    """The corpus as a build reads it."""
    from shards.configfile import parse
    from shards.corpora.table.reader import TableConfig

    corpus = parse(TableConfig, {"root": str(root), "spec": str(SPEC)}, "the benchmark").read()
    print(*(note.splitlines()[0] for note in corpus.notes), sep="\n", file=sys.stderr)
    return len(corpus.utterances)


def measure(root: Path, how: str) -> tuple[float, float, float, int]:
    """(seconds, seconds of CPU, GB at most, turns) of a process that reads `root`."""
    command = [sys.executable, __file__, "--measure", how, "--folder", str(root)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1]), float(told[2]), int(told[3])


def main() -> None:
    """Make the corpus, measure both, print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=268_000)
    parser.add_argument("--folder", type=Path, help="where the corpus is, or is to be written")
    parser.add_argument("--measure", choices=("plain", "spec"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        started = time.perf_counter()
        reading = {"plain": read_plainly, "spec": read_with_spec}[options.measure]
        count = reading(options.folder)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(time.perf_counter() - started, time.process_time(), memory, count)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = options.folder or Path(folder) / "podcast"
        if not root.exists():
            make(root, options.rows)
        for how, name in (("plain", "lines and files, plainly"), ("spec", "msp_podcast.yaml")):
            seconds, cpu, memory, count = measure(root, how)
            print(
                f"{name}: {seconds:.1f} s ({cpu:.1f} s of one core), {memory:.2f} GB at most, "
                f"{count:,} counted"
            )


if __name__ == "__main__":
    main()
