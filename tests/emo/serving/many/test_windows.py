"""Long recordings: windows lie where they should, equal what turns give, and join to segments."""

import numpy as np
import pytest
import soundfile

from emo import load
from emo.__main__ import main
from emo.serving.items import Item, Prediction, Refusal
from emo.serving.many.windows import BLOCK, Windows, segments, track
from emo.serving.predict import CannotPredict


@pytest.fixture(scope="module")
def model(trained_runs):
    return load(trained_runs["audio"])


def tone(path, seconds, rate=8000, channels=1):
    rng = np.random.default_rng(5)
    wave = 0.2 * rng.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, wave, rate)
    return wave


def test_windows_are_what_the_same_samples_give_alone(model, tmp_path):
    wave = tone(tmp_path / "long.wav", 2 * BLOCK / 8000 + 1.3)[:, 0]
    found = list(track(model, Item("x", tmp_path / "long.wav"), Windows(2.0, 1.5)))
    assert [one.start for one in found[:3]] == [0.0, 1.5, 3.0]
    assert found[-1].end == pytest.approx(len(wave) / 8000)
    pcm = soundfile.read(tmp_path / "long.wav", dtype="float32")[0]
    for one in (found[0], found[len(found) // 2], found[-1]):
        part = pcm[round(one.start * 8000) : round(one.end * 8000)]
        assert model(part, rate=8000).probabilities == pytest.approx(one.probabilities, abs=1e-5)


@pytest.mark.parametrize(("seconds", "count"), [(0.7, 1), (2.0, 1), (2.5, 2), (4.0, 3)])
def test_every_second_is_in_a_window(model, tmp_path, seconds, count):
    tone(tmp_path / "a.flac", seconds, rate=11025, channels=2)
    found = list(track(model, Item("x", tmp_path / "a.flac"), Windows(2.0, 1.0)))
    assert len(found) == count
    assert found[-1].end == pytest.approx(seconds, abs=0.01)


def test_silence_and_damage_inside_a_recording(model, tmp_path):
    wave = tone(tmp_path / "a.wav", 6)
    wave[8000 * 2 : 8000 * 4] = 0
    soundfile.write(tmp_path / "a.wav", wave, 8000)
    found = list(track(model, Item("x", tmp_path / "a.wav"), Windows(1.0, 1.0)))
    assert [one.label is None for one in found] == [False, False, True, True, False, False]
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[:4000])
    [*_, last] = track(model, Item("x", tmp_path / "no.wav"), Windows(1.0, 1.0))
    assert isinstance(last, Refusal)
    assert "missing" in last.reason
    with pytest.raises(CannotPredict, match="no gaps"):
        Windows(1.0, 2.0)


def test_segments_join_neighbours_and_cover_the_time_once():
    def one(start, label):
        table = {} if label is None else {label: 0.9, "other": 0.1}
        return Prediction("r", table, start, start + 2)

    track = [one(0, "a"), one(1, "a"), one(2, "b"), one(3, None), one(4, "b")]
    found = segments(track, 1.0)
    assert [(one.start, one.end, one.label) for one in found] == [
        (0, 2.5, "a"), (2.5, 3.5, "b"), (4.5, 6, "b"),
    ]  # fmt: skip
    assert found[0].confidence == pytest.approx(0.9)


def test_the_command_writes_a_track_lines_and_a_picture(trained_runs, tmp_path, capsys):
    tone(tmp_path / "my talk.wav", 5)
    lines, drawn = tmp_path / "t.rttm", tmp_path / "t.svg"
    words = ["--window", "2", "--every", "1", "--rttm", str(lines), "--picture", str(drawn)]
    run, path = str(trained_runs["fusion"]), str(tmp_path / "my talk.wav")
    assert main(["predict", run, path, *words]) == 0
    shown = capsys.readouterr()
    assert "0.00-2.00 s" in shown.out
    assert "without text" in shown.err
    fields = [line.split() for line in lines.read_text().splitlines()]
    assert all(len(one) == 10 and one[0] == "EMOTION" for one in fields)
    assert sum(float(one[4]) for one in fields) == pytest.approx(5)
    assert drawn.read_text().startswith("<svg")
    assert drawn.read_text().count("<rect") > 4
