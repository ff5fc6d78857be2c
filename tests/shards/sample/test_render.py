import itertools
import re

import numpy as np
import pytest

from shards.sample.render import (
    FLAT,
    MAX_SYLLABLES,
    MIN_SYLLABLES,
    PROSODIES,
    SAMPLE_RATE,
    VOICES,
    draw_syllables,
    render,
)


@pytest.fixture(scope="module")
def rendered():
    rng = np.random.default_rng(5)
    return {
        (speaker, number): render(draw_syllables(rng), speaker, prosody, rng)
        for speaker in VOICES
        for number, prosody in enumerate([*PROSODIES, FLAT])
    }


def test_ten_voices_differ():
    assert len(set(VOICES.values())) == len(VOICES) == 10
    sounds = {
        render("b'a:di:", speaker, FLAT, np.random.default_rng(0)).tobytes() for speaker in VOICES
    }
    assert len(sounds) == 10


def test_turns_last_one_to_three_seconds_and_are_not_clipped(rendered):
    for wave in rendered.values():
        assert wave.dtype == np.dtype("<i2")
        assert 0.8 < len(wave) / SAMPLE_RATE < 4
        assert 300 < np.abs(wave.astype(int)).max() < 32000


def test_loudness_tells_the_manners_apart_in_every_voice(rendered):
    def level(wave: np.ndarray) -> float:
        return float(20 * np.log10(np.sqrt(np.mean((wave / 32768.0) ** 2))))

    order = sorted(range(5), key=lambda number: -PROSODIES[number].loudness)
    for speaker in VOICES:
        levels = [level(rendered[speaker, number]) for number in order]
        assert (np.diff(levels) < -1.5).all(), speaker


def test_slow_manners_last_longer(rendered):
    seconds = np.array(
        [[len(rendered[speaker, number]) for number in range(5)] for speaker in VOICES]
    ).mean(axis=0)
    for fast, slow in itertools.permutations(range(5), 2):
        if PROSODIES[fast].rate > 1.15 * PROSODIES[slow].rate:  # apart by more than the jitter
            assert seconds[fast] < seconds[slow]


def test_the_same_draws_give_the_same_sound():
    first, again = (
        render("m'a:ti: l0s'u:", "1F", PROSODIES[0], np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_syllables_fill_words_of_two_or_three():
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(300):
        words = draw_syllables(rng).split()
        sizes = [len(split_syllables(word)) for word in words]
        assert set(sizes) <= {2, 3}
        assert all(word.count("'") == 1 for word in words)
        counts.add(sum(sizes))
    assert counts == set(range(MIN_SYLLABLES, MAX_SYLLABLES + 1))


def split_syllables(word: str) -> list[str]:
    return re.findall(r"[bdfgklmnprstvz]'?(?:i:|u:|eI|oU|aI|a|E|0)", word)
