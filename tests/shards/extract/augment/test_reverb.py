"""The room decays as long as it was told to, and the voice comes through."""

from pathlib import Path

import numpy as np
import pytest

from shards.build.job import build
from shards.configfile import ConfigError, parse
from shards.extract.augment import AugmentConfig, variants
from shards.extract.augment.reverb import DIRECT_DB, add_reverb, room_response
from shards.store.index import open_dataset
from shards.store.verify import check_dataset

RATE = 16000


def decay_time(response: np.ndarray) -> float:
    """RT60 (seconds) by Schroeder's backward integration (ISO 3382), from -5 to -35 dB."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    level = 10 * np.log10(energy / energy[0])
    part = np.flatnonzero((level <= -5) & (level >= -35))
    slope, _ = np.polyfit(part / RATE, level[part], 1)
    return -60 / slope


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_sound_falls_by_60_db_in_the_given_time(seconds, seed):
    click = np.zeros(3 * RATE, np.float32)
    click[0] = 1
    response = room_response(seconds, RATE, np.random.default_rng(seed))
    heard = add_reverb(click, response)
    assert decay_time(heard[1:]) == pytest.approx(seconds, rel=0.1)


def test_the_direct_path_is_kept(speech):
    """Its sound comes first, unchanged, and stronger than all reflections."""
    response = room_response(0.4, RATE, np.random.default_rng(0))
    assert response[0] == 1
    assert not response[1:80].any()  # 5 ms
    ratio = 10 * np.log10(1 / np.square(response[1:]).sum(dtype=np.float64))
    assert ratio == pytest.approx(DIRECT_DB, abs=0.01)
    wave = speech(1.0, RATE)
    heard = add_reverb(wave, response)
    np.testing.assert_allclose(heard[:80], wave[:80], atol=1e-5)


def test_it_is_the_convolution_cut_to_the_length_of_the_wave(speech):
    wave = speech(0.5, RATE)
    response = room_response(0.3, RATE, np.random.default_rng(0))
    heard = add_reverb(wave, response)
    assert heard.dtype == np.float32
    exact = np.convolve(wave.astype(np.float64), response)[: len(wave)]
    np.testing.assert_allclose(heard, exact, atol=1e-5)


def test_each_turn_has_a_room_of_its_own(speech):
    wave = speech(0.5, RATE)
    config = AugmentConfig(variants=("reverb",))

    def heard(seed, turn):
        return dict(variants(wave, RATE, config, seed, turn))["reverb"]

    np.testing.assert_array_equal(heard(1, "a"), heard(1, "a"))
    assert not np.array_equal(heard(1, "a"), heard(1, "b"))
    assert not np.array_equal(heard(1, "a"), heard(2, "a"))


def test_it_is_made_where_it_is_asked_for(small, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    augment = {"variants": ["noise", "reverb"], "reverb_rt60": [0.3, 0.5]}
    build(small.config(corpus, folder, augment=augment), workers=1)
    assert set(open_dataset(folder).column("variant")) == {"clean", "noise", "reverb"}
    assert check_dataset(folder, deep=True).summary.variants["reverb"] > 0


def test_no_configuration_makes_it_unasked() -> None:
    assert "reverb" not in AugmentConfig().variants
    for file in sorted(Path("configs").rglob("*.yaml")):
        assert "reverb" not in file.read_text(), file


def test_rooms_that_there_are_none_of() -> None:
    with pytest.raises(ConfigError, match=r"reverb_rt60: stay within 0\.05 to 3"):
        parse(AugmentConfig, {"reverb_rt60": [0.0, 1.0]}, "x.yaml")
