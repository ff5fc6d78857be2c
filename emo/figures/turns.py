"""What can be seen and heard of single turns of a dataset: spectrogram, sound, transcript.

A dataset holds features; the recordings stay in the corpus. A sound is taken from the shards where
they hold the waveform, else decoded from the corpus again if that is where it was, else made from
the log-mel spectrum. Which of these it is, is said beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emo.figures.griffin_lim import invert
from shards import configfile
from shards.config import ShardConfig
from shards.corpora.read import read_corpus
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.audio.turn import load_turn
from shards.extract.features.mel import LOGMEL
from shards.extract.features.waveform import WAVEFORM
from shards.extract.spectrum import LogMel, SpectrumConfig
from shards.store.index import CONFIG, Dataset, open_dataset
from shards.store.read import DamagedSample, ShardReader
from shards.store.schema import CLEAN

STORED = "from the shards"
DECODED = "decoded from the corpus"
INVERTED = "made from the log-mel spectrum (Griffin-Lim): the corpus is not at hand"


@dataclass(frozen=True)
class Sound:
    """float32 [samples] in ±1 at `rate` Hz, and where it comes from."""

    wave: np.ndarray
    rate: int
    origin: str


@dataclass(frozen=True)
class Seen:
    """A log-mel spectrum [frames, mels] in dB, of `seconds`."""

    logmel: np.ndarray
    seconds: float


class Turns:
    """The turns of an opened dataset; of vectors, those of the dataset they were made from."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = _with_sound(dataset)
        self._sounds: dict[str, Sound | None] = {}

    @cached_property
    def _rows(self) -> dict[str, int]:
        columns = self._dataset.columns("utterance", "variant")
        clean = np.flatnonzero(columns["variant"] == CLEAN)
        return {str(columns["utterance"][row]): int(row) for row in clean}

    @cached_property
    def _reader(self) -> ShardReader:
        return ShardReader(self._dataset, [LOGMEL.name, WAVEFORM.name])

    def facts(self, utterance: str) -> dict[str, Any]:
        """The turn's row of the index; {} if the dataset has none."""
        row = self._rows.get(utterance)
        if row is None:
            return {}
        return dict(self._dataset.table.slice(row, 1).to_pylist()[0])

    def see(self, utterance: str) -> Seen | None:
        """The turn's log-mel spectrum: the stored one, or that of its sound; None without both."""
        config = self._dataset.manifest.feature_config
        stored = self._read(utterance).get(LOGMEL.name)
        if stored is not None:
            rate = self._dataset.manifest.sample_rate
            return Seen(stored.astype(np.float32), len(stored) * config.hop / rate)
        sound = self.hear([utterance])[utterance]
        if sound is None or not len(sound.wave):
            return None
        logmel = LogMel(SpectrumConfig(n_fft=1024, hop=256, mels=80), sound.rate)(sound.wave)
        return Seen(logmel, len(sound.wave) / sound.rate)

    def hear(self, utterances: Sequence[str]) -> dict[str, Sound | None]:
        """The sounds of turns; None where there is neither a waveform, nor corpus, nor log-mel."""
        missing = [name for name in utterances if name not in self._sounds]
        for name in missing:
            wave = self._read(name).get(WAVEFORM.name)
            if wave is not None:
                top = np.iinfo(wave.dtype).max + 1 if wave.dtype.kind == "i" else 1
                scaled = wave.astype(np.float32) / np.float32(top)
                self._sounds[name] = Sound(scaled, self._dataset.manifest.sample_rate, STORED)
        missing = [name for name in missing if name not in self._sounds]
        self._sounds |= self._decode(missing)
        for name in missing:
            if name not in self._sounds:
                self._sounds[name] = self._invert(name)
        return {name: self._sounds[name] for name in utterances}

    def _read(self, utterance: str) -> dict[str, np.ndarray]:
        row = self._rows.get(utterance)
        try:
            return {} if row is None else self._reader.read(row)
        except DamagedSample:  # nothing to show; training and `verify` are the ones to complain
            return {}

    def _decode(self, utterances: Sequence[str]) -> dict[str, Sound]:
        """From the corpus, as the dataset's own configuration names it, if it is the same sound."""
        path = self._dataset.folder / CONFIG
        if not utterances or not path.is_file():
            return {}
        wanted, found = set(utterances), {}
        try:
            config = configfile.load(ShardConfig, path)
            corpus = read_corpus(config.corpus)
        except (UserError, OSError):  # moved, or not on this machine
            return {}
        for one in corpus.utterances:
            if one.id in wanted:
                sound = self._decoded(one, config)
                if sound is not None:
                    found[one.id] = sound
        return found

    def _decoded(self, one: Utterance, config: ShardConfig) -> Sound | None:
        if one.audio is None:
            return None
        try:
            recording = load_turn(one, config.audio)
        except (UserError, OSError):
            return None
        identity = self.facts(one.id).get("recording")
        if identity is not None and identity != recording.identity:
            return None  # the file has changed since: not what the model has heard
        return Sound(recording.wave, config.audio.sample_rate, DECODED)

    def _invert(self, utterance: str) -> Sound | None:
        stored = self._read(utterance).get(LOGMEL.name)
        if stored is None:
            return None
        manifest = self._dataset.manifest
        wave = invert(stored.astype(np.float32), manifest.feature_config, manifest.sample_rate)
        return Sound(wave, manifest.sample_rate, INVERTED)


def _with_sound(dataset: Dataset) -> Dataset:
    """`dataset`, or the one whose turns its vectors describe, if that is still there."""
    vectors = dataset.manifest.settings.get("vectors")
    if not vectors:
        return dataset
    source = vectors["dataset"]
    try:
        found = open_dataset(Path(source["folder"]))
    except UserError:
        return dataset
    return found if found.manifest.dataset_hash == source["hash"] else dataset
