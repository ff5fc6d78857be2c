"""The recording of a turn: the whole file, a part of it, or a cell of a Parquet file."""

from __future__ import annotations

from dataclasses import replace

from shards.corpora.embedded import read_recording
from shards.corpora.utterance import LONG, WHOLE, Utterance
from shards.extract.audio import AudioConfig, AudioError, Recording, load

LENGTH_SLIP = (0.5, 0.1)  # seconds, share: what a recording may differ from its times


def load_turn(one: Utterance, config: AudioConfig) -> Recording:
    """The recording of `one`, which has one; remarks on its length are added to it.

    Raises:
        AudioError: as `audio.load`, or the whole file is there where the times name a part of it.
    """
    assert one.audio is not None
    data = None if one.embedded is None else read_recording(one)
    segment = None if one.segment == WHOLE else one.segment
    recording = load(one.audio, config, segment, data)
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
