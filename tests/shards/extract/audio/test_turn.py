"""Segments of long recordings: cut to the sample, each file decoded once for all of its turns."""

import io

import numpy as np
import pytest
import soundfile

from shards.corpora.utterance import WHOLE, Utterance
from shards.extract.audio import AudioConfig, AudioError, recording
from shards.extract.audio.cutting import BLOCK, Cutter
from shards.extract.audio.turn import TurnReader, load_turn

RATE = 16000
CONFIG = AudioConfig(sample_rate=RATE)
FORMATS = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None), ("AU", "FLOAT"),
           ("CAF", "PCM_16"), ("WAV", "GSM610")]  # fmt: skip


def turn(path, name, segment):
    return Utterance(name, path, "x", "hap", (), "s", "1", "d", 0, segment=segment)


@pytest.fixture
def long(tmp_path):
    def made(kind, subtype, seconds=30):
        rng = np.random.default_rng(5)
        wave = 0.2 * rng.standard_normal(seconds * RATE).astype(np.float32)
        soundfile.write(tmp_path / "long", wave, RATE, format=kind, subtype=subtype)
        with soundfile.SoundFile(tmp_path / "long") as file:
            return tmp_path / "long", file.read(seconds * RATE, dtype="float32")

    return made


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_segments_are_cut_to_the_sample_and_the_file_is_decoded_once(
    long, monkeypatch, kind, subtype
):
    path, whole = long(kind, subtype)
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, 25, 12)
    segments = [(float(s), float(s + rng.uniform(0.5, 4.5))) for s in starts] + [(28.0, None)]
    turns = [turn(path, f"t{n}", segment) for n, segment in enumerate(segments)]
    turns.append(turn(path, "again", segments[3]))
    calls = []
    real = recording.decode_all
    monkeypatch.setattr(recording, "decode_all", lambda *words: calls.append(words) or real(*words))
    reader = TurnReader(turns, CONFIG)
    for one in [turns[n] for n in rng.permutation(len(turns))]:
        first, last = one.segment
        piece = whole[round(first * RATE) : None if last is None else round(last * RATE)]
        assert np.array_equal(reader.load(one).wave, piece)
    assert len(calls) == 1
    assert not reader._ready, "nothing is kept that no turn asks for any more"
    assert np.array_equal(load_turn(turns[0], CONFIG).wave, reader.load(turns[0]).wave)


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_a_segment_that_is_not_there_spoils_no_other(long, kind):
    path, whole = long(kind, None, seconds=4)
    turns = [turn(path, "a", (0.5, 1.5)), turn(path, "b", (3.0, 9.0)), turn(path, "c", (2.0, 3.0))]
    reader = TurnReader(turns, CONFIG)
    assert np.array_equal(reader.load(turns[0]).wave, whole[8000:24000])
    with pytest.raises(AudioError, match=r"outside: 3 s to 9 s of a recording of 4\.000 s"):
        reader.load(turns[1])
    assert np.array_equal(reader.load(turns[2]).wave, whole[32000:48000])


def test_whole_files_and_single_segments_are_read_as_ever(long):
    path, whole = long("OGG", None, seconds=2)
    turns = [turn(path, "a", None), turn(path, "b", WHOLE), turn(path, "c", (0.5, 1.0))]
    reader = TurnReader(turns, CONFIG)
    for one, piece in zip(turns, (whole, whole, whole[8000:16000]), strict=True):
        assert np.array_equal(reader.load(one).wave, piece)


def test_a_file_that_cannot_be_read_rejects_each_of_its_turns(tmp_path):
    (tmp_path / "x.ogg").write_bytes(b"<html>")
    turns = [turn(tmp_path / "x.ogg", name, (0.1, 0.2 + n)) for n, name in enumerate("ab")]
    reader = TurnReader(turns, CONFIG)
    for one in turns:
        with pytest.raises(AudioError) as caught:
            reader.load(one)
        assert caught.value.kind == "not audio"


def test_blocks_are_not_kept_for_the_segments_cut_from_them():
    cutter = Cutter([(1.0, 1.5)], RATE, 1)
    for _ in range(50):
        cutter.feed(np.ones((BLOCK, 1), np.float32))
    [piece] = cutter.pieces()
    assert len(piece) == RATE // 2
    assert piece.base is None or piece.base.nbytes < 2 * piece.nbytes


@pytest.mark.parametrize("sizes", [(1,) * 40, (7, 33), (40,), (13, 13, 14)])
def test_pieces_do_not_depend_on_the_blocks(sizes):
    samples = np.arange(80, dtype=np.float32).reshape(40, 2)
    cutter = Cutter([(0.0, 1.0), (0.35, 2.25), (3.9, None), None], 10, 2)
    place = 0
    for size in sizes:
        cutter.feed(samples[place : place + size])
        place += size
    wanted = [samples[:10], samples[4:22], samples[39:], samples]
    for piece, expected in zip(cutter.pieces(), wanted, strict=True):
        assert np.array_equal(piece, expected)


def test_a_voice_message_without_an_end_mark_is_cut_in_one_pass(tmp_path):
    buffer = io.BytesIO()
    wave = 0.2 * np.random.default_rng(0).standard_normal(4 * RATE)
    soundfile.write(buffer, wave, RATE, format="OGG", subtype="VORBIS")
    data = bytearray(buffer.getvalue())
    data[data.rfind(b"OggS") + 5] &= ~4
    (tmp_path / "v.ogg").write_bytes(data)
    whole = load_turn(turn(tmp_path / "v.ogg", "w", None), CONFIG).wave
    turns = [
        turn(tmp_path / "v.ogg", name, (1.0 * n, 1.0 * n + 0.5)) for n, name in enumerate("ab")
    ]
    reader = TurnReader(turns, CONFIG)
    for one in turns:
        first = round(one.segment[0] * RATE)
        assert np.array_equal(reader.load(one).wave, whole[first : first + RATE // 2])
