"""The recording of a turn: the whole file, a part of it, or a cell of a Parquet file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from shards.corpora.embedded import read_recording
from shards.corpora.utterance import LONG, WHOLE, Utterance
from shards.extract.audio import AudioConfig, AudioError, Recording, load, load_all
from shards.extract.audio.cutting import Segment

File = tuple[Path | None, tuple[str, int] | None]  # and where in it the recording lies
LENGTH_SLIP = (0.5, 0.1)  # seconds, share: what a recording may differ from its times


def load_turn(one: Utterance, config: AudioConfig) -> Recording:
    """The recording of `one`, which has one; remarks on its length are added to it.

    Raises:
        AudioError: as `audio.load`, or the whole file is there where the times name a part of it.
    """
    return TurnReader([], config).load(one)


class TurnReader:
    """Reads the recordings of `turns`, in any order; a file is decoded once for all its segments.

    What is kept are the segments that were not asked for yet: of a shard, at most its turns.
    """

    def __init__(self, turns: Iterable[Utterance], config: AudioConfig) -> None:
        self.config = config
        self._segments: dict[File, list[Segment]] = defaultdict(list)
        self._ready: dict[tuple[File, Segment], Recording | AudioError] = {}
        for one in turns:
            if (segment := _segment(one)) is not None:
                self._segments[one.audio, one.embedded].append(segment)

    def load(self, one: Utterance) -> Recording:
        """As `load_turn`."""
        return _with_length(one, self._recording(one), self.config)

    def _recording(self, one: Utterance) -> Recording:
        assert one.audio is not None
        file, segment = (one.audio, one.embedded), _segment(one)
        if segment is None or (file, segment) not in self._ready:
            data = None if one.embedded is None else read_recording(one)
            wanted = list(dict.fromkeys(self._segments.get(file, ())))
            if segment is None or segment not in wanted or len(wanted) == 1:
                return load(one.audio, self.config, segment, data)
            found = load_all(one.audio, self.config, wanted, data)
            self._ready |= {(file, place): each for place, each in zip(wanted, found, strict=True)}
        self._segments[file].remove(segment)
        recording = self._ready[file, segment]
        if segment not in self._segments[file]:
            del self._ready[file, segment]
        if isinstance(recording, AudioError):
            raise recording
        return recording


def _segment(one: Utterance) -> Segment | None:
    return None if one.segment == WHOLE else one.segment


def _with_length(one: Utterance, recording: Recording, config: AudioConfig) -> Recording:
    segment = _segment(one)
    seconds = len(recording.wave) / config.sample_rate
    remarks = [*recording.remarks]
    if seconds > LONG:
        remarks.append(("long", f"{seconds:.1f} s"))
    if segment is None and one.start is not None and one.end is not None:
        told = one.end - one.start
        if abs(seconds - told) > max(LENGTH_SLIP[0], LENGTH_SLIP[1] * told):
            differs = f"the recording has {seconds:.2f} s, its times say {told:.2f} s"
            is_part = told > 0 and seconds > told and one.start >= 0 and one.end <= seconds
            if is_part and one.segment is None:
                detail = f"{differs}, {one.start:g} to {one.end:g} s: is the turn a part of it? "
                remedy = "set `segments` in the corpus' YAML: true cuts it, false takes it whole"
                raise AudioError("outside", str(one.audio), detail + remedy)
            remarks.append(("other length", differs))
    return replace(recording, remarks=tuple(remarks))
