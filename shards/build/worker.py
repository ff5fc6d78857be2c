"""What one worker process does: turns of the corpus -> samples -> one committed shard."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.build.recordings import LOW_SNR, content_of, file_size
from shards.config import ShardConfig
from shards.corpora.labels import label_set
from shards.corpora.utterance import Utterance
from shards.extract import audio, augment, features, text
from shards.extract.audio.snr import wada_snr
from shards.extract.audio.turn import TurnReader
from shards.processes import die_with_parent, keep_freed_memory
from shards.store import sidecar
from shards.store.index import TOKENIZER, place_of
from shards.store.schema import CLEAN, Sample, metadata, sample_key
from shards.store.sidecar import BadSidecar, Flag, Rejection, Sidecar
from shards.store.write import Item, write_shard

Place = tuple[str, str]  # a shard's name and build, as `BuildFile.places` has them


@dataclass(frozen=True)
class Job:
    """What all workers of one build are given. `build` is the digest of its settings."""

    config: ShardConfig
    folder: Path
    build: str


def start_worker() -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and dies with it."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where the launcher ignored SIGTERM, every process below it would: ignoring survives exec.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()


def make_shard(job: Job, place: Place, utterances: Sequence[Utterance]) -> Sidecar:
    """Make and commit the shard at `place` from its turns.

    If another process has committed the same shard meanwhile, that one is kept.

    Raises:
        UserError: the disk cannot be written, or the tokenizer cannot be loaded. A bad turn is a
            rejection, not an error.
    """
    existing = committed(job.folder, place)
    if existing is not None:
        return existing
    maker = sample_maker(job)
    reader = TurnReader(utterances, job.config.audio)
    items = (item for one in utterances for item in maker.items(one, reader))
    folder, number = place_of(job.folder, place[0])
    return write_shard(folder, number, place[1], len(utterances), items)


def committed(folder: Path, place: Place, deep: bool = False) -> Sidecar | None:
    """The sidecar of the shard at `place` in `folder` if it is that build's and intact, else None.

    Intact means that the tar has the size that its sidecar states; with `deep`, also the SHA-256.
    """
    name, build = place
    path = folder / name
    try:
        described = sidecar.load(*place_of(folder, name))
        if described.build != build or path.stat().st_size != described.size:
            return None
        if deep:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != described.sha256:
                    return None
    except (BadSidecar, OSError):
        return None
    return described


class SampleMaker:
    """Makes the samples of a turn; keeps what is slow to set up."""

    def __init__(self, job: Job) -> None:
        self.config = config = job.config
        self.labels = label_set(config.labels)
        self.tokens = None
        if config.text is not None:
            self.tokens = text.Tokens(job.folder / TOKENIZER, config.text.max_tokens)
        self.extract = None
        if config.features is not None:
            self.extract = features.Extractor(config.features, config.audio.sample_rate)

    def items(self, one: Utterance, reader: TurnReader) -> Iterator[Item]:
        """The samples of turn `one` (clean first), remarks on it, or its rejection."""
        keep = self.config.output.incomplete == "keep"
        cleaned = text.clean(one.text) if one.text is not None else None
        lacking = []
        arrays: dict[str, np.ndarray] = {}
        if self.tokens is not None:
            if cleaned:
                arrays["tokens"], cut = self.tokens(cleaned)
                if cut:
                    yield Flag(one.id, "text cut", f"longer by {cut} tokens", one.source)
            else:
                kind = "no text" if one.text is None else "empty text"
                lacking.append(_reject(one, kind, f"nothing is left of {one.text!r}"))
        if self.extract is not None and one.audio is None:
            lacking.append(_reject(one, "no audio", "the corpus names no recording for it"))
        if lacking and (not keep or (not arrays and (self.extract is None or one.audio is None))):
            yield lacking[0]
            return
        for less in lacking:  # kept with what it has
            yield Flag(less.utterance, less.kind, less.reason, less.source)
        if self.extract is None or one.audio is None:
            yield self._sample(one, CLEAN, cleaned or None, None, None, arrays)
        else:
            yield from self._spoken(one, reader, cleaned or None, arrays)

    def _spoken(
        self,
        one: Utterance,
        reader: TurnReader,
        cleaned: str | None,
        arrays: dict[str, np.ndarray],
    ) -> Iterator[Item]:
        config = self.config
        assert one.audio is not None
        assert self.extract is not None
        try:
            recording = reader.load(one)
        except audio.AudioError as error:
            turned_away = _reject(one, error.kind, str(error))
            yield replace(turned_away, recording_bytes=file_size(one), content=content_of(one))
            return
        content = content_of(one)
        ratio = round(wada_snr(recording.wave), 2)
        if config.audio.min_snr is not None and ratio < config.audio.min_snr:
            reason = f"{ratio} dB is below audio.min_snr = {config.audio.min_snr}"
            if config.audio.low_snr == "drop":
                turned_away = _reject(one, LOW_SNR, reason)
                yield replace(turned_away, recording_bytes=file_size(one), content=content)
                return
            yield Flag(one.id, LOW_SNR, reason, one.source)
        for kind, reason in recording.remarks:
            yield Flag(one.id, kind, reason, one.source)
        if recording.clipped:
            yield Flag(one.id, "clipped", "the loudest parts are cut flat", one.source)
        rate = config.audio.sample_rate
        identity = recording.identity
        size = file_size(one)
        waves = [(CLEAN, recording.wave)]
        if self.labels.class_of(one.label) >= 0:
            waves += augment.variants(recording.wave, rate, config.augment, config.seed, one.id)
        for variant, wave in waves:
            sound = self.extract(wave, clean=variant == CLEAN)
            sample = self._sample(one, variant, cleaned, len(wave) / rate, ratio, arrays | sound)
            yield replace(
                sample,
                recording=identity,
                recording_bytes=size,
                content=content if variant == CLEAN else None,
            )

    def _sample(
        self,
        one: Utterance,
        variant: str,
        cleaned: str | None,
        seconds: float | None,
        ratio: float | None,
        arrays: dict[str, np.ndarray],
    ) -> Sample:
        meta = metadata(one, variant, arrays, cleaned, seconds, ratio)
        rate = self.config.audio.sample_rate
        unknown = None
        if self.tokens is not None and cleaned is not None:
            unknown = self.tokens.unknown(cleaned)
        return Sample(sample_key(one.id, variant), meta, arrays, rate, unknown=unknown)


# This process' maker for the present job. A global, because a pool hands its workers functions and
# arguments only, and setting up filters and tokenizer anew for each shard would take seconds.
_ready: dict[tuple[str, Path], SampleMaker] = {}


def sample_maker(job: Job) -> SampleMaker:
    key = (job.build, job.folder)
    if key not in _ready:
        _ready.clear()
        _ready[key] = SampleMaker(job)
    return _ready[key]


def _reject(one: Utterance, kind: str, reason: str) -> Rejection:
    return Rejection(one.id, kind, reason, one.source)
