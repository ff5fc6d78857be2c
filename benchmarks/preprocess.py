"""Preprocessing against a plain librosa loop: utterances a second and core, stage by stage.

Both make the same five variants of the same recordings (clean, noise, pitch, stretch, shift) and
the log-mel of each, with or without the MFCC (which ours computes from the same mel at little cost;
that time is counted under log-mel). They take turns, each in a process of its own with one thread,
and are timed in seconds of CPU. Then the package's side runs in one process and in two, timed by
the wall clock. Prints Markdown; takes about two minutes.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SOURCE_RATE, RATE = 16000, 22050  # of the recordings (IEMOCAP's), and of the features
NOISE_DB, SEMITONES, STRETCH, SHIFT = 20.0, 1.5, 1.1, 0.3
STAGES = ("read", "resample", "SNR", "noise", "pitch", "stretch", "shift", "log-mel", "MFCC")
Stages = Counter  # stage -> seconds


class Clock:
    """Adds the CPU time since the last lap to a stage."""

    def __init__(self) -> None:
        self.stages: Stages = Counter()
        self.last = time.process_time()

    def lap(self, stage: str) -> None:
        now = time.process_time()
        self.stages[stage] += now - self.last  # type: ignore[assignment]
        self.last = now


def librosa_loop(paths: Sequence[Path], mfcc: bool) -> Stages:
    """What one would write with librosa and its defaults."""
    import librosa

    clock = Clock()
    for path in paths:
        native, rate = librosa.load(path, sr=None)
        clock.lap("read")
        wave = librosa.resample(native, orig_sr=rate, target_sr=RATE)
        clock.lap("resample")
        rng = np.random.default_rng(0)
        waves = [wave]
        scale = np.sqrt(np.mean(wave**2) / 10 ** (NOISE_DB / 10))
        waves.append(wave + scale * rng.standard_normal(len(wave), dtype=np.float32))
        clock.lap("noise")
        waves.append(librosa.effects.pitch_shift(wave, sr=RATE, n_steps=SEMITONES))
        clock.lap("pitch")
        waves.append(librosa.effects.time_stretch(wave, rate=STRETCH))
        clock.lap("stretch")
        waves.append(np.roll(wave, int(SHIFT * len(wave))))
        clock.lap("shift")
        size: dict[str, Any] = {"n_fft": 1024, "hop_length": 256, "n_mels": 128}
        for one in waves:
            power = librosa.feature.melspectrogram(y=one, sr=RATE, **size)
            librosa.power_to_db(power, top_db=None)
            clock.lap("log-mel")
            if mfcc:
                librosa.feature.mfcc(y=one, sr=RATE, n_mfcc=40, **size)
                clock.lap("MFCC")
    return clock.stages


def librosa_loop_keeping_memory(paths: Sequence[Path], mfcc: bool) -> Stages:
    """The same, with the memory setting of our workers."""
    from shards.processes import keep_freed_memory

    keep_freed_memory()
    return librosa_loop(paths, mfcc)


def ours(paths: Sequence[Path], mfcc: bool) -> Stages:
    """What a worker of the preprocessing job does with a recording, up to the arrays."""
    import soxr

    from shards.extract import audio, augment
    from shards.extract.audio.snr import wada_snr
    from shards.extract.features import Extractor, FeatureConfig
    from shards.processes import keep_freed_memory

    keep_freed_memory()
    native_rate = audio.AudioConfig(sample_rate=SOURCE_RATE)
    augmentation = augment.AugmentConfig(
        noise_snr=(NOISE_DB, NOISE_DB),
        pitch_semitones=(SEMITONES, SEMITONES),
        stretch_rate=(STRETCH, STRETCH),
        shift_share=(SHIFT, SHIFT),
    )
    logmel = Extractor(FeatureConfig(kinds=("logmel",)), RATE)
    both = Extractor(FeatureConfig(kinds=("logmel", "mfcc")), RATE)
    clock = Clock()
    for path in paths:
        native = audio.read(path, native_rate)
        clock.lap("read")
        wave = soxr.resample(native, SOURCE_RATE, RATE)  # as `audio.read` does at that rate
        clock.lap("resample")
        wada_snr(wave)
        clock.lap("SNR")
        waves = [wave]
        for variant, one in augment.variants(wave, RATE, augmentation, 1, path.stem):
            waves.append(one)
            clock.lap(variant)
        for one in waves:
            (both if mfcc else logmel)(one)
            clock.lap("log-mel")
    return clock.stages


def write_recordings(folder: Path, count: int) -> list[Path]:
    """Voice-like tones in syllables, 16 bits at 16 kHz, 4.6 s on average."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        t = np.arange(int(SOURCE_RATE * rng.uniform(3.6, 5.6))) / SOURCE_RATE
        f0 = rng.uniform(90, 250) * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * t))
        phase = 2 * np.pi * np.cumsum(f0) / SOURCE_RATE
        voice = sum(np.sin(n * phase + n * n) / n for n in range(1, 30))
        wave = voice * np.clip(np.sin(12.6 * t) + 0.3, 0, None) ** 1.5
        wave = 0.3 * wave / np.abs(wave).max() + 1e-3 * rng.standard_normal(len(t))
        paths.append(folder / f"{i:03d}.wav")
        soundfile.write(paths[-1], wave, SOURCE_RATE)
    return paths


def take_turns(paths: list[Path], mfcc: bool, rounds: int) -> dict[str, Stages]:
    """The best of `rounds` for each contender, as seconds of CPU an utterance by stage."""
    contenders: dict[str, Callable[[Sequence[Path], bool], Stages]] = {
        "librosa loop": librosa_loop,
        "the same, memory kept": librosa_loop_keeping_memory,
        "ours": ours,
    }
    context = multiprocessing.get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, context) for name in contenders}
    found: dict[str, list[Stages]] = {name: [] for name in contenders}
    for name, run in contenders.items():
        pools[name].submit(run, paths[:3], mfcc).result()  # imports, compiles, fills caches
    for _ in range(rounds):
        for name, run in contenders.items():
            found[name].append(pools[name].submit(run, paths, mfcc).result())
    for pool in pools.values():
        pool.shutdown()
    best = {name: min(some, key=lambda one: one.total()) for name, some in found.items()}
    return {
        name: Counter({stage: seconds / len(paths) for stage, seconds in stages.items()})
        for name, stages in best.items()
    }


def on_cores(paths: list[Path], rounds: int) -> tuple[float, float]:
    """Utterances a second (by the wall clock) of one process and of two, the best of `rounds`."""
    context = multiprocessing.get_context("spawn")
    best = [0.0, 0.0]
    with ProcessPoolExecutor(1, context) as one, ProcessPoolExecutor(2, context) as two:
        pools = ((1, one), (2, two))
        for processes, pool in pools:
            list(pool.map(_warm_up, [paths[:3]] * processes))
        for _ in range(rounds):
            for processes, pool in pools:
                chunks = [paths[i : i + 4] for i in range(0, len(paths), 4)] * 4
                start = time.perf_counter()
                list(pool.map(_with_mfcc, chunks))
                speed = sum(map(len, chunks)) / (time.perf_counter() - start)
                best[processes - 1] = max(best[processes - 1], speed)
    return best[0], best[1]


def _warm_up(paths: Sequence[Path]) -> None:
    ours(paths, True)
    time.sleep(1)  # so that each process of the pool gets one of these


def _with_mfcc(paths: Sequence[Path]) -> None:
    ours(paths, True)


def print_table(title: str, costs: dict[str, Stages]) -> None:
    """One column a contender: each stage's cost, the sum, and what it comes to."""

    def row(name: str, show: Callable[[Stages], str]) -> None:
        print(f"| {name} | " + " | ".join(show(stages) for stages in costs.values()) + " |")

    first = next(iter(costs.values())).total()
    print(f"\n## {title}\n\nms of CPU an utterance (share of the total)\n")
    print("| stage | " + " | ".join(costs) + " |\n" + "|---" * (len(costs) + 1) + "|")
    for stage in STAGES:
        if any(stage in stages for stages in costs.values()):
            row(stage, partial(_cell, stage))
    row("**all**", lambda one: f"**{1e3 * one.total():.1f}**")
    row("**utterances/s a core**", lambda one: f"**{1 / one.total():.1f}**")
    row("**times the loop**", lambda one: f"**{first / one.total():.2f}**")


def _cell(stage: str, one: Stages) -> str:
    return f"{1e3 * one[stage]:.1f} ({one[stage] / one.total():.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in cpus if "model name" in line), "unknown")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_recordings(Path(folder), options.utterances)
        print("# Preprocessing against a librosa loop\n")
        print(f"{os.cpu_count()} cores, {model}; {len(paths)} recordings of 4.6 s on average,")
        print(f"16 bits at {SOURCE_RATE} Hz; the best of {options.rounds} rounds, on two cores of")
        print(f"{2 * options.rounds}.")
        print_table("Log-mel alone", take_turns(paths, False, options.rounds))
        print_table("Log-mel and MFCC", take_turns(paths, True, options.rounds))
        one, two = on_cores(paths, 2 * options.rounds)  # short, and most easily disturbed
    print("\n## Two cores against one\n\n| processes | utterances/s |\n|---|---|")
    print(f"| 1 | {one:.1f} |\n| 2 | {two:.1f} |\n| **times one** | **{two / one:.2f}** |")


if __name__ == "__main__":
    main()
