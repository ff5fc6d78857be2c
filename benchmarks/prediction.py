"""`emo predict` against `emo eval`, against the clock, and against single calls.

python benchmarks/prediction.py RUN RECORDINGS [--minutes 30] [--files 1000]

RUN is a run of an audio model, RECORDINGS a folder of short recordings. Prints three things, each
beside what it is compared with: a long recording in windows beside its own length (and the memory
of the process), and many short files in batches beside single calls of the same object.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--files", type=int, default=1000)
    args = parser.parse_args()
    found = sorted(args.recordings.rglob("*.wav"))
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (args.minutes / 10, args.minutes):
            long_recording(args.run, found, Path(folder), minutes)
        many_files(args.run, found, Path(folder), args.files)


def long_recording(run: Path, found: list[Path], folder: Path, minutes: float) -> None:
    """Windows of 4 s every 2 s of turns one behind the other, by the command."""
    path = folder / f"{minutes:g}.wav"
    rate = soundfile.info(found[0]).samplerate
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        seconds, turn = 0.0, 0
        while seconds < 60 * minutes:
            wave = soundfile.read(found[turn % len(found)], dtype="float32")[0]
            file.write(wave)
            seconds, turn = seconds + len(wave) / rate, turn + 1
    words = ["predict", str(run), str(path), "--window", "4", "--every", "2", "--format", "csv"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    code = f"import sys, resource; from emo.__main__ import main; main({words!r}); " \
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stderr.split()[-1]) / 1024
    print(
        f"{seconds:.0f} s of sound: {wall:.1f} s ({seconds / wall:.0f} times as fast), "
        f"{cpu:.1f} s of CPU ({seconds / cpu:.0f} times), peak memory {peak:.0f} MiB, "
        f"{len(done.stdout.splitlines()) - 1} windows",
        flush=True,
    )


def many_files(run: Path, found: list[Path], folder: Path, count: int) -> None:
    """Files of 0.5 s: single calls, then the same files as one list."""
    from emo import load

    paths = []
    for number in range(count):
        wave, rate = soundfile.read(found[number % len(found)], dtype="float32")
        middle = len(wave) // 2
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], wave[middle : middle + rate // 2], rate)
    model = load(run, "cpu")
    model(paths[0])
    words, tables, times = [], [], {}
    for name in ("single calls", "one list"):
        began, cpu = time.perf_counter(), time.process_time()
        table = [model(path) for path in paths] if name == "single calls" else model(paths)
        times[name] = time.perf_counter() - began, time.process_time() - cpu
        words.append(f"{name}: {times[name][0]:.2f} s ({times[name][1]:.2f} s of CPU)")
        tables.append(np.array([list(one.probabilities.values()) for one in table]))
    words.append(f"largest difference {np.abs(tables[0] - tables[1]).max():.1e}")
    wall, cpu = (times["single calls"][i] / times["one list"][i] for i in (0, 1))
    print(f"{count} files of 0.5 s: {'; '.join(words)}; {wall:.1f} times as fast ({cpu:.1f} by "
          "CPU)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
