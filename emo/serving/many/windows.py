"""A long recording as windows of a few seconds: read in blocks, so memory does not grow with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emo.serving.items import Item, Prediction, Refusal, Result, Sound
from emo.serving.predict import Predictor
from emo.serving.scores import CannotPredict
from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError

BLOCK = 2**18  # samples that are read at once
BATCH = 32  # windows that go through the model at once


@dataclass(frozen=True)
class Windows:
    """`length` seconds, every `every` seconds."""

    length: float
    every: float

    def __post_init__(self) -> None:
        if not 0 < self.every <= self.length:
            raise CannotPredict(
                f"windows of {self.length:g} s every {self.every:g} s: give more than 0, and no "
                "gaps between windows"
            )


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with one label; its confidence is the mean of its windows'."""

    name: str
    start: float
    end: float
    label: str
    confidence: float


def track(predictor: Predictor, item: Item, windows: Windows) -> Iterator[Result]:
    """A `Prediction` for every window of `item`'s recording, with times in seconds.

    A silent window has no probabilities. A recording that cannot be read is one `Refusal`, after
    the windows before the damage.
    """
    if predictor.audio_config is None or not isinstance(item.audio, Path):
        yield Refusal(item.name, f"{item.name}: windows need a recording and a model of audio")
        return
    config = predictor.audio_config
    notes = () if item.text is None else ("the text was not used: windows have no words",)
    try:
        pieces = _windows(item.audio, config, windows)
        given = (
            Item(item.name, Sound(wave, config.sample_rate), start=start, end=end)
            for start, end, wave in pieces
        )
        for one in predictor.predictions(given, BATCH):
            if isinstance(one, Refusal) and one.kind == "silent":
                yield Prediction(item.name, {}, one.start, one.end, (*notes, "silent"))
            elif isinstance(one, Prediction):
                yield replace(one, notes=(*notes, *one.notes))
            else:
                yield one
    except (ValueError, OSError) as error:
        yield Refusal(item.name, str(error))


def segments(track: Sequence[Prediction], every: float) -> list[Segment]:
    """Neighbouring windows of the same label joined; each stands for the middle `every` seconds."""
    found: list[Segment] = []
    scores: list[float] = []
    for number, one in enumerate(track):
        assert one.start is not None
        assert one.end is not None
        middle = (one.start + one.end) / 2
        first = number == 0 or track[number - 1].name != one.name
        last = number == len(track) - 1 or track[number + 1].name != one.name
        start = one.start if first else middle - every / 2
        end = one.end if last else middle + every / 2
        if one.label is None:
            continue
        before = found[-1] if found else None
        joins = before is not None and (before.name, before.label) == (one.name, one.label)
        if before is not None and joins and start <= before.end + 1e-6:
            scores.append(one.confidence)
            found[-1] = replace(before, end=end, confidence=float(np.mean(scores)))
        else:
            if before is not None and before.name == one.name:
                start = max(start, before.end)
            scores = [one.confidence]
            found.append(Segment(one.name, start, end, one.label, one.confidence))
    return found


def _windows(
    path: Path, config: AudioConfig, windows: Windows
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Start and end in seconds, and float32 [samples] at the model's rate, of every window."""
    rate = config.sample_rate
    length, every = round(windows.length * rate), round(windows.every * rate)
    held, first, reached = np.empty(0, np.float32), 0, 0  # `first` is the place of held[0]
    for block in _blocks(path, config):
        held = np.concatenate((held, block))
        while len(held) >= length:
            yield first / rate, (first + length) / rate, held[:length]
            held, first, reached = held[every:], first + every, first + length
    rest = first + len(held)
    if rest > reached and len(held) >= config.min_seconds * rate:
        yield first / rate, rest / rate, held


def _blocks(path: Path, config: AudioConfig) -> Iterator[np.ndarray]:
    """The recording at the model's rate, mono, in blocks; whole where it cannot be read in parts.

    Raises:
        AudioError: the recording cannot be used.
    """
    import soundfile
    import soxr

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except (soundfile.SoundFileError, TypeError, OSError):
        yield audio.read(path, config)  # another container, or a message that says what is wrong
        return
    with file:
        resampler = soxr.ResampleStream(file.samplerate, config.sample_rate, 1, dtype="float32")
        promised, seen = file.frames, 0
        try:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                seen += len(block)
                mono = np.ascontiguousarray(block.mean(axis=1))
                yield (
                    mono
                    if file.samplerate == config.sample_rate
                    else (resampler.resample_chunk(mono))
                )
        except soundfile.SoundFileError as error:
            raise AudioError("truncated", str(path), f"after {seen} samples: {error}") from None
        if file.samplerate != config.sample_rate:
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        if file.seekable() and seen < promised < 2**48:
            raise AudioError("truncated", str(path), f"{promised} samples promised, {seen} there")
