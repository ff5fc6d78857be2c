"""Read a recording: mono, one sampling rate, and every way in which a file can be bad."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from shards.errors import UserError
from shards.extract.audio.config import AudioConfig
from shards.extract.audio.containers.stream import BadContainer
from shards.extract.audio.cutting import Segment
from shards.extract.audio.decode import Decoded, decode_all
from shards.extract.audio.level import Remarks, is_clipped, to_full_scale

Kind = Literal[
    "missing",
    "empty",
    "pointer",  # Git LFS's note in place of the file
    "not audio",
    "no length",  # a format that does not say how long it is
    "bad header",
    "truncated",
    "damaged",  # bytes in the middle are not those that were written
    "several streams",  # joined, but of different rates or channels
    "not finite",
    "out of range",
    "too short",
    "too long",
    "outside",  # a segment that the recording does not have
    "silent",
]


class AudioError(UserError):
    """A recording that cannot be used; `kind` says why in a word or two, for counting."""

    def __init__(self, kind: Kind, path: str, detail: str) -> None:
        # All three stay in `args`, so that the error survives the way back from a worker process.
        super().__init__(kind, path, detail)
        self.kind = kind
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A usable recording: `wave` float32 [samples] mono at the configured rate, nominally in ±1.

    `clipped` tells that the file's loudest parts are cut flat: a fact to report, not an error.
    `remarks` are other facts to report, as (kind, reason).
    """

    wave: np.ndarray
    clipped: bool
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """SHA-256 of the sound (hex), the same whatever the file's name and container."""
        return hashlib.sha256(self.wave.tobytes()).hexdigest()


def read(path: str | Path, config: AudioConfig) -> np.ndarray:
    """The waveform of `load`: float32 [samples], mono, at `config.sample_rate`.

    Raises:
        AudioError: as `load`.
    """
    return load(path, config).wave


def load(
    path: str | Path,
    config: AudioConfig,
    segment: Segment | None = None,
    data: bytes | None = None,
) -> Recording:
    """Read an audio file, or the `segment` of it, of any depth, rate and channel count.

    `data` is the file's content if it lies elsewhere; `path` then only names it in errors.

    The formats are those of `FORMATS`, whatever the file is called. Channels are averaged, less
    those that are silent; the rate is changed by soxr (its HQ setting). Several streams one behind
    the other are one recording. Segments are cut before that, exact to the file's own sample.

    Raises:
        AudioError: the file cannot be used; `Kind` lists the reasons.
    """
    [found] = load_all(path, config, [segment], data)
    if isinstance(found, AudioError):
        raise found
    return found


def load_all(
    path: str | Path,
    config: AudioConfig,
    segments: Sequence[Segment | None],
    data: bytes | None = None,
) -> list[Recording | AudioError]:
    """Several segments of one file, which is decoded once; what `load` would raise is returned.

    Only the segments are kept in memory, however long the file is.
    """
    name = os.fsencode(path).decode("utf-8", "backslashreplace")  # a name need not be UTF-8
    decoded: Sequence[Decoded | BadContainer]
    try:
        decoded = decode_all(Path(path) if data is None else data, segments)
    except BadContainer as problem:
        decoded = [problem] * len(segments)
    found: list[Recording | AudioError] = []
    for one in decoded:
        try:
            if isinstance(one, BadContainer):
                raise AudioError(cast(Kind, one.kind), name, one.detail)
            samples, rate, remarks = one
            found.append(of_samples(samples, rate, config, name, remarks))
        except AudioError as error:
            found.append(error)
    return found


def of_samples(
    samples: np.ndarray, rate: int, config: AudioConfig, name: str, remarks: Remarks | None = None
) -> Recording:
    """The recording that `samples`, float32 [samples, channels] at `rate` (Hz), are; as `load`.

    Args:
        name: what they are called in errors.
        remarks: what decoding has found.
    """
    import soxr

    remarks = remarks or []
    try:
        samples, more = _checked(samples, rate, config)
    except BadContainer as problem:
        raise AudioError(cast(Kind, problem.kind), name, problem.detail) from None
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    # Half the span, not the peak: a constant offset is silence too.
    if float(mono.max() - mono.min()) / 2 < _level(config):
        detail = f"never above audio.silence_dbfs = {config.silence_dbfs} dB of full scale"
        if float(np.ptp(samples, axis=0).max()) / 2 >= _level(config):
            detail = "its channels cancel each other out: one of them is inverted; keep one channel"
        raise AudioError("silent", name, detail)
    if rate != config.sample_rate:
        mono = soxr.resample(mono, rate, config.sample_rate)
    clipped = is_clipped(samples)
    return Recording(np.ascontiguousarray(mono), clipped, (*remarks, *more))


def _checked(samples: np.ndarray, rate: int, config: AudioConfig) -> tuple[np.ndarray, Remarks]:
    """The samples less silent channels, after the checks on all of them, and remarks."""
    if not len(samples):
        raise BadContainer("empty", "it holds no samples; remove it or record it again")
    if not np.isfinite(samples).all():
        count = int(samples.size - np.isfinite(samples).sum())
        raise BadContainer("not finite", f"{count} samples are NaN or infinite; export it again")
    seconds = len(samples) / rate
    if seconds < config.min_seconds:
        detail = f"{seconds:.3f} s, less than audio.min_seconds = {config.min_seconds}"
        raise BadContainer("too short", detail)
    if config.max_seconds is not None and seconds > config.max_seconds:
        detail = f"{seconds:.1f} s, more than audio.max_seconds = {config.max_seconds:g}"
        raise BadContainer("too long", detail)
    remarks: Remarks = []
    samples = to_full_scale(samples, remarks)
    if samples.shape[1] > 1:
        # A microphone that was off would halve the level, and its zeros would pass for clipping.
        heard = (samples.max(axis=0) - samples.min(axis=0)) / 2 >= _level(config)
        if heard.any() and not heard.all():
            off = ", ".join(str(1 + channel) for channel in np.flatnonzero(~heard))
            remarks.append(("silent channel", f"left out: channel {off} of {len(heard)}"))
            samples = np.ascontiguousarray(samples[:, heard])
    return samples, remarks


def _level(config: AudioConfig) -> float:
    return float(10 ** (config.silence_dbfs / 20))
