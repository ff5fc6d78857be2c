"""What else lies in sound files: lost pages, answers of servers, chunks behind unknown lengths."""

import io
import struct

import numpy as np
import pytest
import soundfile

RATE = 22050


def encode(wave, kind, subtype=None, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def pages(data):
    """The places where Ogg pages begin."""
    place, found = data.find(b"OggS"), []
    while place >= 0:
        found.append(place)
        place = data.find(b"OggS", place + 4)
    return found


def test_an_ogg_page_that_is_lost_or_damaged_is_no_short_turn(load, kind_of, tone):
    """libsndfile gives a quarter of the sound for either, without a word."""
    whole = encode(np.tile(tone, 3), "OGG", "VORBIS")
    starts = pages(whole)
    assert len(starts) > 4
    assert kind_of(whole[: starts[3]] + whole[starts[4] :]) == "damaged"
    for place in (starts[3] + 100, starts[3] + 6):  # the sound, and the position in the header
        flipped = bytearray(whole)
        flipped[place] ^= 1
        assert kind_of(bytes(flipped)) == "damaged"
    assert len(load(whole).wave) == 3 * RATE


def test_a_flac_block_that_is_damaged(kind_of, tone):
    data = bytearray(encode(tone, "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    assert kind_of(bytes(data)) in ("damaged", "truncated")


APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)


@pytest.mark.parametrize(
    "before", [APE, b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000), b"\xff\xfb\x90" + bytes(50)]
)
def test_an_mp3_behind_something_else_is_read_and_told(load, tone, before):
    data = encode(tone, "MP3")
    expected, found = load(data), load(before + data)
    assert np.array_equal(found.wave, expected.wave)
    told = f"{len(before)} bytes before the sound were not read"
    assert ("bytes left over", told) in found.remarks


def test_bytes_inside_an_mp3_that_are_no_sound_are_told(load, tone):
    data = encode(tone, "MP3")
    [(kind, reason)] = load(data[:2000] + b"\x11" * 300 + data[2000:]).remarks
    assert (kind, reason[:9]) == ("bytes left over", "300 bytes")


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, 0])
def test_chunks_behind_samples_of_unknown_length_are_no_sound(load, tone, length):
    data = bytearray(encode(tone, "WAV", "PCM_16"))
    place = data.find(b"data") + 4
    data[place : place + 4] = struct.pack("<I", length)
    tags = b"LIST" + struct.pack("<I", 10) + b"INFOISFT\0\0" + b"id3 " + bytes(4)
    assert len(load(bytes(data) + tags).wave) == RATE
    assert len(load(bytes(data)).wave) == RATE


@pytest.mark.parametrize("subtype", ["MS_ADPCM", "G721_32", "GSM610"])
def test_the_filling_of_a_last_block_is_no_sound(load, tone, subtype):
    data = encode(tone, "WAV", subtype)
    assert len(load(data).wave) == RATE
    place = data.find(b"fact") + 8  # a count that cannot be right cuts nothing off
    wrong = data[:place] + struct.pack("<I", 100) + data[place + 4 :]
    assert len(load(wrong).wave) >= RATE


def test_a_caf_of_unknown_length_is_whole(load, tone):
    data = bytearray(encode(tone, "CAF", "PCM_16"))
    place = data.find(b"data") + 4
    data[place : place + 8] = b"\xff" * 8
    assert np.abs(load(bytes(data)).wave - tone).max() < 1e-4


def test_channels_that_cancel_each_other_out_are_called_so(tmp_path, tone):
    from shards.extract import audio

    (tmp_path / "a.wav").write_bytes(encode(np.stack([tone, -tone], 1), "WAV", "PCM_16"))
    with pytest.raises(audio.AudioError, match="silent: its channels cancel each other out"):
        audio.load(tmp_path / "a.wav", audio.AudioConfig())


@pytest.mark.parametrize("text", [b"../../.git/annex/objects/Xk/9f/SHA256E-s1--a/SHA256E-s1--a"])
def test_a_link_of_git_annex_that_was_copied_as_a_file(kind_of, text):
    assert kind_of(text) == "pointer"


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "broken", "socket", "long"])
def test_what_is_no_file_is_missing_and_nobody_waits_for_it(tmp_path, kind):
    import os
    import socket

    from shards.extract import audio

    path = tmp_path / "x.wav"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "broken":
            path.symlink_to("nowhere.wav")
        case "long":
            path = tmp_path / ("n" * 300 + ".wav")
        case "socket":
            here = os.getcwd()
            os.chdir(tmp_path)  # a socket's whole path may have 107 bytes
            try:
                socket.socket(socket.AF_UNIX).bind("x.wav")
            finally:
                os.chdir(here)
    with pytest.raises(audio.AudioError) as caught:
        audio.load(path, audio.AudioConfig())
    assert caught.value.kind == "missing"
