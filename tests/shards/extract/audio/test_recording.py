"""Recordings of every kind, good and bad, made here."""

import pickle

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError

CONFIG = AudioConfig()


def kind_of(path, config=CONFIG):
    with pytest.raises(AudioError) as caught:
        audio.read(path, config)
    assert str(path) in str(caught.value)
    assert caught.value.kind in str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_U8"),
        ("a.wav", "FLOAT"),
        ("a.wav", "DOUBLE"),
        ("a.flac", "PCM_24"),
        ("a.aiff", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.mp3", "MPEG_LAYER_III"),
    ],
)
def test_formats_and_depths_give_the_same_wave(tmp_path, speech, name, subtype):
    wave = speech()
    soundfile.write(tmp_path / name, wave, 22050, subtype=subtype)
    found = audio.read(tmp_path / name, CONFIG)
    assert found.dtype == np.float32
    assert len(found) == len(wave)
    close = {"PCM_U8": 0.01, "VORBIS": 0.15, "MPEG_LAYER_III": 0.15}.get(subtype, 5e-5)
    assert np.abs(found - wave).max() < close


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate)
    recording = audio.load(tmp_path / "a.wav", CONFIG)
    assert len(recording.wave) == 22050
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    assert np.abs(recording.wave - expected)[2000:-2000].max() < 1e-3


def test_stereo_is_averaged(tmp_path, speech):
    left, right = speech(seed=1), speech(seed=2, f0=220)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 22050, subtype="FLOAT")
    np.testing.assert_allclose(
        audio.read(tmp_path / "a.wav", CONFIG), (left + right) / 2, atol=1e-7
    )


def test_channels_that_cancel_are_silent(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", np.stack([speech(), -speech()], axis=1), 22050)
    assert kind_of(tmp_path / "a.wav") == "silent"


def test_missing_and_unreadable(tmp_path):
    assert kind_of(tmp_path / "no.wav") == "missing"
    assert kind_of(tmp_path) == "missing"  # a folder


def test_empty(tmp_path):
    (tmp_path / "bytes.wav").touch()
    soundfile.write(tmp_path / "samples.wav", np.zeros(0), 22050)
    assert kind_of(tmp_path / "bytes.wav") == "empty"
    assert kind_of(tmp_path / "samples.wav") == "empty"


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.flac", "a.mp3"])
def test_not_audio(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>Not found</html>" * 50)
    assert kind_of(tmp_path / name) == "not audio"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_truncated(tmp_path, speech, name, kept):
    soundfile.write(tmp_path / name, speech(), 22050)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    assert kind_of(tmp_path / name) == "truncated"


@pytest.mark.parametrize("size", [13, 20, 30, 43, 44, 100])
def test_truncated_near_the_header(tmp_path, speech, size):
    soundfile.write(tmp_path / "a.wav", speech(), 22050)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:size])
    assert kind_of(tmp_path / "a.wav") == "truncated"


def test_a_wav_written_to_a_pipe_is_whole(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech(), 22050)
    whole = bytearray((tmp_path / "a.wav").read_bytes())
    whole[4:8] = whole[40:44] = b"\xff\xff\xff\xff"  # what a writer puts that cannot seek back
    (tmp_path / "a.wav").write_bytes(whole)
    assert len(audio.read(tmp_path / "a.wav", CONFIG)) == len(speech())


def test_a_chunk_after_the_samples_is_no_truncation(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech(), 22050)
    with (tmp_path / "a.wav").open("ab") as file:
        file.write(b"LIST\x04\x00\x00\x00INFO")
    assert len(audio.read(tmp_path / "a.wav", CONFIG)) == len(speech())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, speech, value):
    wave = speech()
    wave[[100, 200]] = value
    soundfile.write(tmp_path / "a.wav", wave, 22050, subtype="FLOAT")
    assert kind_of(tmp_path / "a.wav") == "not finite"
    with pytest.raises(AudioError, match="2 samples"):
        audio.read(tmp_path / "a.wav", CONFIG)


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_silent(tmp_path, offset):
    rng = np.random.default_rng(0)
    wave = offset + 1e-5 * rng.standard_normal(22050)
    soundfile.write(tmp_path / "a.wav", wave, 22050, subtype="FLOAT")
    assert kind_of(tmp_path / "a.wav") == "silent"
    audio.read(tmp_path / "a.wav", AudioConfig(silence_dbfs=-120))


def test_too_short(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech(seconds=0.04), 22050)
    assert kind_of(tmp_path / "a.wav") == "too short"
    audio.read(tmp_path / "a.wav", AudioConfig(min_seconds=0.03))


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_clipped_is_told_and_kept(tmp_path, speech, subtype):
    wave = speech()
    for name, loud in (("clean", wave), ("clipped", np.clip(wave, -0.1, 0.1))):
        soundfile.write(tmp_path / f"{name}.wav", loud, 16000, subtype=subtype)
    assert not audio.load(tmp_path / "clean.wav", CONFIG).clipped
    assert audio.load(tmp_path / "clipped.wav", CONFIG).clipped


def test_one_clipped_channel_is_enough(tmp_path, speech):
    both = np.stack([speech(), np.clip(speech(), -0.1, 0.1)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, 22050)
    assert audio.load(tmp_path / "a.wav", CONFIG).clipped


def test_the_error_comes_back_whole_from_a_worker():
    error = AudioError("silent", "a.wav", "why")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.kind) == (str(error), "silent")


def test_config_limits():
    with pytest.raises(ValidationError):
        AudioConfig(low_snr="ignore")
