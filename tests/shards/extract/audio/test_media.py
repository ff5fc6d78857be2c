"""Containers that take PyAV: the samples are FFmpeg's own, cut files are noticed, video is none."""

import builtins
import io
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest

from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError
from shards.extract.audio.decode import decode_all
from shards.extract.audio.media import MissingExtra

RATE = 16000
RATES = {"libopus": 48000, "wmav2": 44100, "ac3": 48000}  # what these codecs take
CONFIG = AudioConfig(sample_rate=RATE)
# container, codec, ending: what corpora are given out in
MADE = [
    ("mp4", "aac", "mp4"),
    ("ipod", "aac", "m4a"),
    ("ipod", "alac", "m4a"),
    ("mov", "pcm_s16le", "mov"),
    ("webm", "libopus", "webm"),
    ("matroska", "ac3", "mkv"),
    ("matroska", "pcm_s16le", "mkv"),
    ("avi", "libmp3lame", "avi"),
    ("avi", "pcm_s16le", "avi"),
    ("asf", "wmav2", "wma"),
    ("adts", "aac", "aac"),
    ("mpegts", "aac", "ts"),
    ("flv", "aac", "flv"),
]


def tones(seconds=2.0, channels=1, rate=RATE):
    """int16 [samples, channels]: a chirp, other in each channel."""
    time = np.arange(round(seconds * rate)) / rate
    waves = [np.sin(2 * np.pi * (200 + 150 * c + 80 * time) * time) for c in range(channels)]
    return np.rint(9000 * np.stack(waves, 1)).astype(np.int16)


def encode(container, codec, samples, rate=RATE, video=False, tracks=1):
    buffer = io.BytesIO()
    buffer.name = f"made.{container}"
    with av.open(buffer, "w", format=container) as out:
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
        streams = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        for stream in streams:
            stream.bit_rate = 64000
            stream.time_base = Fraction(1, rate)
        picture = out.add_stream("mpeg4", rate=10) if video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
            for _ in range(3):
                image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                out.mux(picture.encode(image))
            out.mux(picture.encode(None))
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=layout
            )
            frame.sample_rate = rate
            resampler = av.AudioResampler(
                format=stream.format.name, layout=layout, rate=rate, frame_size=stream.frame_size
            )
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                out.mux(stream.encode(part))
            out.mux(stream.encode(None))
    return buffer.getvalue()


def of_ffmpeg(data):
    """float32 [samples, channels] by FFmpeg's decoder and its own conversion of samples."""
    blocks = []
    with av.open(io.BytesIO(data)) as container:
        track = container.streams.best("audio")
        layout = track.layout.name
        convert = av.AudioResampler(format="flt", layout=layout)
        for frame in container.decode(track):
            blocks += convert.resample(frame)
        count = track.layout.nb_channels
        return np.concatenate([one.to_ndarray().reshape(-1, count) for one in blocks])


@pytest.mark.parametrize(("container", "codec", "ending"), MADE)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_samples_are_those_of_ffmpeg(tmp_path, container, codec, ending, channels):
    rate = RATES.get(codec, RATE)
    sound = tones(channels=channels, rate=rate)
    data = encode(container, codec, sound, rate)
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data)
    [(samples, found_rate, _)] = decode_all(path, [None])
    expected = of_ffmpeg(data)
    assert found_rate == rate
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= 2**-24
    if codec in ("alac", "pcm_s16le"):
        assert np.array_equal(np.rint(samples * 2**15), sound)
    recording = audio.load(path, AudioConfig(sample_rate=rate))
    assert np.allclose(recording.wave, expected.mean(axis=1), atol=1e-6)
    assert np.array_equal(audio.load("x", AudioConfig(sample_rate=rate), data=data).wave,
                          recording.wave)  # fmt: skip


def test_all_channels_are_mixed_and_silent_ones_do_not_count(tmp_path):
    sound = tones(channels=6)
    sound[:, 3:] = 0
    (tmp_path / "x.mkv").write_bytes(encode("matroska", "pcm_s16le", sound))
    found = audio.load(tmp_path / "x.mkv", CONFIG)
    assert np.allclose(found.wave, sound[:, :3].mean(axis=1) / 2**15, atol=1e-6)
    assert ("silent channel", "left out: channel 4, 5, 6 of 6") in found.remarks


def test_a_segment_is_cut_to_the_sample(tmp_path):
    for container, codec in (("ipod", "alac"), ("mp4", "aac"), ("webm", "libopus")):
        rate = 48000
        data = encode(container, codec, tones(rate=rate), rate)
        (tmp_path / "x").write_bytes(data)
        whole = of_ffmpeg(data)
        config = AudioConfig(sample_rate=rate)
        found = audio.load_all(tmp_path / "x", config, [(0.5, 1.0), (1.5, None), (0.75, 1.25)])
        for one, (first, last) in zip(found, [(0.5, 1.0), (1.5, None), (0.75, 1.25)], strict=True):
            piece = whole[round(first * rate) : None if last is None else round(last * rate), 0]
            assert np.allclose(one.wave, piece, atol=1e-6)


def test_a_video_with_sound_gives_its_sound_and_one_without_is_no_audio(tmp_path):
    sound = tones()
    (tmp_path / "x.mp4").write_bytes(encode("mp4", "aac", sound, video=True))
    assert abs(len(audio.load(tmp_path / "x.mp4", CONFIG).wave) - len(sound)) < 2048
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        picture = out.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        out.mux(picture.encode(image))
        out.mux(picture.encode(None))
    with pytest.raises(AudioError, match=r"not audio: .* without a sound track"):
        audio.load("x.mp4", CONFIG, data=buffer.getvalue())


def test_of_several_tracks_the_one_that_is_read_is_told():
    data = encode("matroska", "pcm_s16le", tones(), tracks=2)
    found = audio.load("x.mkv", CONFIG, data=data)
    assert ("several tracks", "number 1 of 2 is read") in found.remarks


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "ac3"), ("avi", "pcm_s16le"),
                             ("asf", "wmav2"), ("webm", "libopus")]
)  # fmt: skip
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_cut_copy_is_noticed(container, codec, share):
    rate = RATES.get(codec, RATE)
    data = encode(container, codec, tones(6.0, rate=rate), rate)
    with pytest.raises(AudioError) as caught:
        audio.load("x", CONFIG, data=data[: round(share * len(data))])
    assert caught.value.kind == "truncated"


def test_streams_that_do_not_say_how_long_they_are_are_told():
    found = audio.load("x.aac", CONFIG, data=encode("adts", "aac", tones()))
    assert "no length" in dict(found.remarks)


def test_without_pyav_the_error_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").write_bytes(encode("mp4", "aac", tones()))
    real = builtins.__import__

    def without(name, *more, **options):
        if name == "av":
            raise ImportError("no av")
        return real(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"x\.mp4 is an MP4 .*pip install 'emo-shards\[media\]'"):
        audio.load(tmp_path / "x.mp4", CONFIG)


@pytest.mark.parametrize("container", ["mp4", "matroska", "asf", "adts"])
def test_damaged_containers_end_in_a_result_or_a_rejection(container):
    codec = {"mp4": "aac", "matroska": "ac3", "asf": "wmav2", "adts": "aac"}[container]
    rate = RATES.get(codec, RATE)
    data, rng = encode(container, codec, tones(0.5, rate=rate), rate), np.random.default_rng(7)
    for _ in range(15):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 6):
            damaged[place] = rng.integers(0, 256)
        with suppress(AudioError):
            audio.load("x", CONFIG, data=bytes(damaged))
