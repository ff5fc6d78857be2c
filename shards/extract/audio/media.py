"""Containers that libsndfile does not know, read by PyAV, whose wheels bring FFmpeg.

MP4 and its kin (M4A, MOV, 3GP), Matroska and WebM, AVI, ASF (WMA), AMR, AAC, FLV and MPEG streams.
Samples are those of FFmpeg's decoder at the file's own rate and channels; nothing is resampled
here. PyAV is in the extra `media`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.errors import UserError
from shards.extract.audio.containers.stream import BadContainer
from shards.extract.audio.cutting import Cutter, Segment
from shards.extract.audio.level import Remarks

if TYPE_CHECKING:
    import av

# FFmpeg's names of formats without a header that counts: the end of a cut copy is no surprise.
UNCOUNTED = ("aac", "amr", "mpegts", "mpeg", "flv", "loas")
SLIP = (0.5, 0.02)  # seconds, share: what a header's length may differ from the sound
_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


class MissingExtra(UserError):
    """A recording that takes PyAV, which is not installed."""


def cut(
    source: Path | bytes, kind: str, segments: Sequence[Segment | None]
) -> tuple[list[np.ndarray | BadContainer], int, Remarks]:
    """The `segments` of a sound track, float32 [samples, channels], its rate (Hz), and remarks.

    Args:
        kind: the container, for messages.

    Raises:
        BadContainer: there is no sound track, or it is cut or damaged.
        MissingExtra: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        where = f"{source} is" if isinstance(source, Path) else "it is"
        raise MissingExtra(
            f"{where} {kind}, which PyAV reads: pip install 'emo-shards[media]', or convert such "
            "recordings to WAV or FLAC"
        ) from None
    remarks: Remarks = []
    opened = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(opened, metadata_errors="ignore") as container:
            tracks = container.streams.audio
            if not tracks:
                raise BadContainer("not audio", f"{kind} without a sound track")
            track = container.streams.best("audio") or tracks[0]
            if len(tracks) > 1:
                number = 1 + [one.index for one in tracks].index(track.index)
                remarks.append(("several tracks", f"number {number} of {len(tracks)} is read"))
            cutter = None
            rate = channels = 0
            for block, rate_now in _blocks(container, track):
                if cutter is None:
                    rate, channels = rate_now, block.shape[1]
                    cutter = Cutter(segments, rate, channels)
                if (rate_now, block.shape[1]) != (rate, channels):
                    detail = f"{rate} Hz with {channels} channels, then {rate_now} Hz with "
                    raise BadContainer("several streams", f"{detail}{block.shape[1]}")
                cutter.feed(block)
            if cutter is None:
                raise BadContainer("empty", "its sound track holds no samples")
            _check_length(container, track, cutter.count / rate, remarks)
            return cutter.pieces(), rate, remarks
    except av.FFmpegError as error:
        if isinstance(error, av.error.InvalidDataError):
            detail = f"{kind} whose index or frames are not whole ({error.strerror}); copy it again"
            raise BadContainer("truncated", detail) from None
        raise BadContainer("not audio", f"{kind} that FFmpeg cannot read ({error})") from None


def _blocks(container: Any, track: Any) -> Iterator[tuple[np.ndarray, int]]:
    """(samples float32 [n, channels], rate) of each frame."""
    frame: av.AudioFrame
    for frame in container.decode(track):
        values = frame.to_ndarray()
        channels = frame.layout.nb_channels
        # Planar formats come as [channels, n], packed ones as [1, n * channels].
        by_sample = values.T if frame.format.is_planar else values.reshape(-1, channels)
        name = frame.format.name.removesuffix("p")
        if name not in _SCALES:
            raise BadContainer("not audio", f"its samples are {name}; convert it to WAV")
        samples = by_sample.astype(np.float32)
        if name == "u8":
            samples -= np.float32(128)
        if _SCALES[name] != 1:
            samples /= np.float32(_SCALES[name])
        yield np.ascontiguousarray(samples), frame.sample_rate


def _check_length(container: Any, track: Any, seconds: float, remarks: Remarks) -> None:
    """Compare the sound with the length in the header, where the format has one."""
    names = set(container.format.name.split(","))
    if names & set(UNCOUNTED):
        remarks.append(("no length", f"{container.format.name} does not say how long it is"))
        return
    promised = None
    if track.duration and track.time_base:
        promised = float(track.duration * track.time_base)
    elif container.duration and len(container.streams) == 1:
        promised = container.duration / 1e6
    if promised is not None and promised - seconds > max(SLIP[0], SLIP[1] * promised):
        detail = f"{promised:.2f} s promised, {seconds:.2f} s there; copy the file again"
        raise BadContainer("truncated", detail)
