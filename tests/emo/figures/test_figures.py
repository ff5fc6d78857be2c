"""Pictures and sounds: known answers, and what can be read on them."""

from __future__ import annotations

import numpy as np
import pytest

from emo.figures.bars import bars_picture
from emo.figures.canvas import BLUE, PAPER, blend, ink_on, shortened, text_width
from emo.figures.confusion import confusion_picture
from emo.figures.griffin_lim import invert
from emo.figures.mel import COLOURS, mel_pixels, turn_picture
from emo.figures.reliability import reliability_bins, reliability_picture
from shards.extract.spectrum import LogMel, SpectrumConfig

CLASSES = ["anger", "happiness", "neutral"]


def luminance(colour: tuple[int, ...]) -> float:
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_numbers_in_cells_can_be_read_on_every_colour() -> None:
    for share in np.linspace(0, 1, 21):
        cell = blend(PAPER, BLUE, float(share))
        one, two = sorted((luminance(cell), luminance(ink_on(cell))))
        assert (two + 0.05) / (one + 0.05) > 4  # WCAG 2 asks for 3 at this size


def test_a_confusion_matrix_is_coloured_by_row() -> None:
    table = np.array([[90, 5, 5], [1, 9, 0], [0, 0, 0]])
    image = confusion_picture(table, CLASSES, "title")
    same = confusion_picture(table * np.array([[1], [100], [1]]), CLASSES, "title")
    # The second row has a hundred times the turns, and only its numbers have changed.
    corner = (slice(None), slice(None, None, 1))
    changed = (image[corner] != same[corner]).any(2)
    assert 0 < changed.mean() < 0.02
    # Both rows are nine tenths right: the same blue in the corners of the two cells.
    blues = {tuple(one) for one in image.reshape(-1, 3).tolist()}
    assert tuple(blend(PAPER, BLUE, 0.9**0.8)) in blues


def test_reliability_bins_hold_every_turn_once() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.91, 0.09], [0.35, 0.65]])
    bins = reliability_bins(labels, probabilities)
    assert [one.turns for one in bins] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 3]
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[9].confidence == pytest.approx((0.95 + 0.92 + 0.91) / 3)
    assert reliability_picture(bins, "title").shape[2] == 3
    assert sum(one.turns for one in reliability_bins([0], np.array([[1.0, 0.0]]))) == 1


def test_spectrograms_have_time_to_the_right_and_low_pitches_below() -> None:
    logmel = np.full((20, 8), -80.0)
    logmel[15:, 0] = 0.0  # late and low
    pixels = mel_pixels(logmel, height=16, width=40)
    assert pixels.shape == (16, 40, 3)
    loud = (pixels == COLOURS[-1]).all(2)
    assert loud[14:, 30:].all()
    assert loud.sum() == 2 * 10


def test_brighter_is_louder_also_without_colours() -> None:
    grey = COLOURS.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(grey) > -0.5).all()
    assert grey[-1] - grey[0] > 200


def test_words_are_cut_to_their_place() -> None:
    assert shortened("short", 200) == "short"
    cut = shortened("a very long transcript " * 20, 200)
    assert cut.endswith("…")
    assert text_width(cut) <= 200
    assert turn_picture(np.zeros((10, 8)), 1.0, "好的" * 50, "one", True).shape == (288, 664, 3)
    assert bars_picture([], np.zeros(0), "nothing").shape[2] == 3


def test_an_inverted_spectrum_has_the_same_log_mel() -> None:
    rate, config = 16000, SpectrumConfig(n_fft=512, hop=128, mels=64)
    time = np.arange(rate // 2) / rate
    tone = (0.3 * np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.01, len(time)).astype(np.float32)
    wanted = LogMel(config, rate)(tone + noise)
    wave = invert(wanted, config, rate)
    assert abs(len(wave) - len(tone)) <= config.hop
    assert np.abs(wave).max() <= 1
    found = LogMel(config, rate)(wave)
    loud = wanted[: len(found)] > wanted.max() - 50
    assert np.abs(found - wanted[: len(found)])[loud].mean() < 3  # dB
    strongest = np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave)
    assert strongest == pytest.approx(440, abs=20)
    assert len(invert(wanted[:1], config, rate)) == 0
