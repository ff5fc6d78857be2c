"""Files as real programs leave them: joined, cut, written into pipes, in odd scales.

Each is made by libsndfile and then changed byte by byte; the right value is the wave it was made
from.
"""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError

CONFIG = AudioConfig()
RATE = 22050


def encode(wave, kind, subtype=None, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, subtype=subtype)
    return bytearray(buffer.getvalue())


# --- several streams in one file ---

JOINED = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("FLAC", "PCM_16"), ("WAV", "PCM_16"),
          ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("NIST", "PCM_16"), ("RF64", "PCM_16")]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype"), JOINED)
def test_streams_joined_by_cat_are_all_read(load, tone, kind, subtype):
    rate = 24000 if subtype == "OPUS" else RATE
    one, two = encode(tone, kind, subtype, rate), encode(tone[:11025], kind, subtype, rate)
    config = AudioConfig(sample_rate=rate)
    apart = [load(part, config=config).wave for part in (one, two, one)]
    together = load(one + two + one, config=config).wave
    np.testing.assert_array_equal(together, np.concatenate(apart))
    assert len(together) == 2 * RATE + 11025


@pytest.mark.parametrize("between", [b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), b"TAG" + bytes(125)])
def test_tags_between_joined_mp3_files(load, tone, between):
    one = encode(tone, "MP3")
    assert len(load(one + between + one).wave) == 2 * RATE
    assert len(load(one + between).wave) == RATE


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", None), ("FLAC", None)])
def test_joined_streams_of_different_rates_are_refused(kind_of, tone, kind, subtype):
    other = encode(tone, kind, subtype, 16000)
    assert kind_of(encode(tone, kind, subtype) + other) == "several streams"


def test_a_cut_stream_behind_a_whole_one_is_noticed(kind_of, tone):
    one = encode(tone, "OGG", "VORBIS")
    assert kind_of(one + one[: len(one) // 2]) == "truncated"


# --- cut files ---

CUT = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "VOC"]


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_file_is_truncated(load, kind_of, tone, kind, share):
    whole = encode(tone, kind)
    assert len(load(whole).wave) == pytest.approx(RATE, abs=2)
    assert kind_of(whole[: int(share * len(whole))]) == "truncated"


@pytest.mark.parametrize("kind", ["IRCAM", "PAF", "PVF", "AVR", "MAT4", "MPC2K", "WVE"])
def test_formats_that_do_not_say_how_long_they_are_are_refused(kind_of, tone, kind):
    rate = 8000 if kind == "WVE" else RATE
    assert kind_of(encode(tone, kind, rate=rate)) == "no length"


# --- headers without the true length ---


def with_length(tone, length):
    data = encode(tone, "WAV", "PCM_16")
    assert data[36:40] == b"data"
    data[40:44] = struct.pack("<I", length)
    return data


@pytest.mark.parametrize(
    "length",
    [0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF, 0, 2 * RATE + 16],
    ids=["SoX", "arecord", "ffmpeg", "int32", "stopped", "header counted twice"],
)
def test_a_wav_written_into_a_pipe_is_whole(load, tone, length):
    expected = load(encode(tone, "WAV", "PCM_16")).wave
    np.testing.assert_array_equal(load(with_length(tone, length)).wave, expected)


def test_no_samples_and_a_chunk_behind_them_is_empty(kind_of, tone):
    assert kind_of(with_length(tone, 0)[:44] + b"LIST\x04\0\0\0INFO") == "empty"


def test_a_header_that_promises_too_little_is_told(load, tone):
    recording = load(with_length(tone, RATE))
    assert [kind for kind, _ in recording.remarks] == ["bytes left over"]


@pytest.mark.parametrize("pad", [b"", b"\0"])
@pytest.mark.parametrize("place", [12, 36])
def test_an_odd_chunk_with_and_without_its_padding_byte(load, tone, pad, place):
    data = encode(tone, "WAV", "PCM_16")
    chunk = b"LIST" + struct.pack("<I", 9) + b"INFOhello" + pad
    expected = load(data).wave
    np.testing.assert_array_equal(load(data[:place] + chunk + data[place:]).wave, expected)


@pytest.mark.parametrize("length", [0x7F000008, 0xFFFFFFFF, 0])
def test_an_aiff_written_into_a_pipe_is_whole(load, tone, length):
    data = encode(tone, "AIFF", "PCM_16")
    expected = load(data).wave
    sound, common = data.find(b"SSND"), data.find(b"COMM")
    data[4:8] = struct.pack(">I", length)
    data[sound + 4 : sound + 8] = struct.pack(">I", length & 0xFFFFFFF0)
    data[common + 10 : common + 14] = struct.pack(">I", 0x3FFFFFFF)
    np.testing.assert_array_equal(load(data).wave, expected)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0])
def test_an_au_written_into_a_pipe_is_whole(load, tone, length):
    data = encode(tone, "AU", "PCM_16")
    expected = load(data).wave
    data[8:12] = struct.pack(">I", length)
    np.testing.assert_array_equal(load(data).wave, expected)


def ogg_checksum(page):
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_stream_without_an_end_mark_is_whole(load, tone, subtype):
    data = encode(tone, "OGG", subtype, 24000)
    expected = load(data).wave
    start = data.rfind(b"OggS")
    page = data[start:]
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_checksum(page))
    recording = load(data[:start] + page)
    np.testing.assert_array_equal(recording.wave, expected)
    assert [kind for kind, _ in recording.remarks] == ["no end mark"]


def test_a_flac_stream_of_unknown_length_is_whole(load, kind_of, tone):
    data = encode(tone, "FLAC", "PCM_16")
    expected = load(data).wave
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    np.testing.assert_array_equal(load(data).wave, expected)
    np.testing.assert_array_equal(load(data, (0.25, 0.5)).wave, expected[5512:11025])
    assert kind_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "GSM610"), ("AIFF", "GSM610"), ("W64", "GSM610"), ("WAV", "G721_32")],
)
def test_codings_that_cannot_be_sought_in(load, tone, kind, subtype):
    soft = tone[: RATE // 2]
    wave = load(encode(soft, kind, subtype)).wave
    assert len(soft) <= len(wave) < len(soft) + 320  # the last block may be filled up
    assert len(wave) == len(soft) or (kind, subtype) not in (("WAV", "GSM610"), ("AIFF", "GSM610"))
    assert np.corrcoef(wave[: len(soft)], soft)[0, 1] > 0.95


# --- scale, rate, channels ---


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_the_numbers_of_16_bit_integers_are_scaled(load, tone, subtype):
    recording = load(encode(tone * 32767, "WAV", subtype))
    np.testing.assert_allclose(recording.wave, tone * (32767 / 32768), atol=1e-6)
    assert [kind for kind, _ in recording.remarks] == ["scaled"]
    quiet = load(encode(np.rint(tone * 20), "WAV", subtype))  # whole numbers, not far above ±1
    assert np.abs(quiet.wave).max() == pytest.approx(9 / 32768)
    assert [kind for kind, _ in quiet.remarks] == ["scaled"]


def test_a_hot_float_file_is_kept_and_other_scales_are_refused(load, kind_of, tone):
    np.testing.assert_array_equal(load(encode(tone * 4, "WAV", "FLOAT")).wave, tone * 4)
    assert kind_of(encode(tone * 2.0**23, "WAV", "FLOAT")) == "out of range"
    assert kind_of(encode(tone * 20, "WAV", "FLOAT")) == "out of range"


@pytest.mark.parametrize("silent", [0.0, 0.25])
def test_a_silent_channel_is_left_out(load, tone, silent):
    both = np.stack([np.full_like(tone, silent), tone], axis=1)
    recording = load(encode(both, "WAV", "FLOAT"))
    np.testing.assert_array_equal(recording.wave, tone)
    assert not recording.clipped
    assert recording.remarks == (("silent channel", "left out: channel 1 of 2"),)


def test_a_damaged_rate_or_length_is_refused_before_decoding(kind_of, tone):
    data = encode(tone, "WAV", "PCM_16")
    data[24:28] = struct.pack("<I", 1)
    assert kind_of(data) == "bad header"
    data = encode(tone, "FLAC", "PCM_16")
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    assert kind_of(data) == "too long"


# --- segments ---


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "AU", "OGG", "MP3"])
def test_a_segment_is_cut_to_the_sample(load, tone, kind):
    data = encode(tone, kind)
    whole = load(data).wave
    np.testing.assert_array_equal(load(data, (0.25, 0.5)).wave, whole[5512:11025])
    np.testing.assert_array_equal(load(data, (0.75, None)).wave, whole[16538:])
    np.testing.assert_array_equal(load(data, (0.9, 1.05)).wave, whole[19845:])  # rounded times


def test_a_segment_is_cut_before_the_rate_is_changed(load, tone):
    data = encode(tone, "WAV", "FLOAT", 44100)
    cut = encode(tone[4410:8820], "WAV", "FLOAT", 44100)
    np.testing.assert_array_equal(load(data, (0.1, 0.2)).wave, load(cut).wave)


@pytest.mark.parametrize("segment", [(0.5, 2.0), (1.5, None), (0.5, 0.5), (0.5, 0.4)])
def test_a_segment_that_the_recording_has_not(kind_of, tone, segment):
    assert kind_of(encode(tone, "WAV"), segment=segment) == "outside"


# --- what is no recording ---


def test_a_pointer_of_git_lfs_is_called_one(kind_of):
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"
    assert kind_of(lfs) == "pointer"
    assert kind_of(b"/annex/objects/SHA256E-s9--" + b"a" * 64 + b".wav\n") == "pointer"


def test_a_name_that_is_not_utf_8(tmp_path, tone):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/m\xe4d.wav")
    with open(path, "wb") as file:
        file.write(encode(tone, "WAV"))
    assert len(audio.load(path, CONFIG).wave) == RATE
    with pytest.raises(AudioError) as caught:
        audio.load(path + "x", CONFIG)
    assert "m\\xe4d.wavx" in str(caught.value)
    str(caught.value).encode()
