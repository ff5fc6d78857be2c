"""What each augmentation does, by known answers, and that nothing depends on who is asked."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emo.data.augment.apply import augmented
from emo.data.augment.config import (
    AugmentConfig,
    GainConfig,
    MaskConfig,
    SpecConfig,
    SpeedConfig,
)
from emo.data.augment.draws import Draws
from emo.data.augment.steps import gain, silence, spec, speed

B, T, F = 64, 40, 12
MASK = torch.arange(T) < torch.randint(5, T + 1, (B, 1), generator=torch.Generator().manual_seed(0))


def draw(count):
    return Draws(3, 1).uniform("test", np.arange(B), count)


def test_numbers_are_even_and_do_not_repeat():
    x = Draws(1, 0).uniform("spec", np.arange(20_000), 4)
    assert x.min() >= 0
    assert x.max() < 1
    counts = np.histogram(x, 20, (0, 1))[0]
    assert ((counts - 4000) ** 2 / 4000).sum() < 45  # chi-squared of 19 degrees, p > 0.001
    assert len(np.unique(x)) == x.size
    assert abs(np.corrcoef(x.T) - np.eye(4)).max() < 0.03
    for other in (Draws(2, 0), Draws(1, 1)):
        assert not np.isin(other.uniform("spec", np.arange(9), 4), x).any()
    assert not np.isin(Draws(1, 0).uniform("speed", np.arange(9), 4), x).any()


@given(st.permutations(range(12)), st.integers(1, 11), st.integers(0, 2**31), st.integers(0, 500))
def test_a_sample_has_its_own_numbers_wherever_it_stands(order, cut, seed, epoch):
    draws, rows = Draws(seed, epoch), np.array(order) - 1  # -1: an empty place
    whole = draws.uniform("spec", rows, 3)
    np.testing.assert_array_equal(draws.uniform("spec", rows[cut:], 3), whole[cut:])
    np.testing.assert_array_equal(draws.uniform("spec", rows, 2), whole[:, :2])


def test_masks_of_a_spectrogram_are_bands_within_their_bounds():
    config = SpecConfig(
        frequency_masks=1, frequency_width=4, time_masks=1, time_width=9, time_share=0.5
    )
    x, mask = spec(torch.ones(B, T, F), MASK, config, draw)
    assert mask is MASK
    hidden = x == 0
    in_frequency = hidden.all(1).sum(1)
    in_time = hidden.all(2).sum(1)
    assert set(in_frequency.tolist()) == set(range(5))
    assert in_time.max() == 9
    assert (in_time <= MASK.sum(1) * 0.5).all()
    for row in range(B):
        bins, frames = hidden[row].all(0), hidden[row].all(1)
        assert (bins[None] | frames[:, None]).equal(hidden[row])
        assert not frames[MASK[row].sum() :].any()  # inside the turn
        for line in (bins.int(), frames.int()):
            assert (line.diff(prepend=torch.zeros(1)) == 1).sum() <= 1  # one run of them


def test_a_waveform_is_silenced_in_one_stretch_and_made_louder():
    x, _ = silence(torch.ones(B, T), MASK, MaskConfig(masks=1, width=0.5), draw)
    assert ((x == 0).sum(1) <= MASK.sum(1) * 0.5 + 1).all()
    assert (x == 0).any()
    louder, _ = gain(torch.ones(B, T), MASK, GainConfig(db=(20, 20)), draw)
    torch.testing.assert_close(louder, torch.full((B, T), 10.0))
    same, _ = gain(torch.ones(B, T), MASK, GainConfig(db=(20, 20), chance=0), draw)
    assert same.equal(torch.ones(B, T))


@pytest.mark.parametrize("width", [(), (F,)])
def test_a_ramp_played_faster_is_a_steeper_ramp(width):
    ramp = torch.arange(T, dtype=torch.float32).reshape(T, *(1,) * len(width)).expand(T, *width)
    mask = (torch.arange(T) < 31).expand(B, T)
    x = ramp * mask[0].reshape(T, *(1,) * len(width))
    for rate in (1.25, 0.8):
        y, new = speed(x.expand(B, *x.shape), mask, SpeedConfig(rates=(rate, rate)), draw)
        length = min(T, int(30 / rate) + 1)
        assert new.sum(1).tolist() == [length] * B
        torch.testing.assert_close(y[0, :length], ramp[:length] * rate)
        assert not y[:, length:].any()
    y, new = speed(x[None], torch.zeros(1, T).bool(), SpeedConfig(), lambda n: np.zeros((1, n)))
    assert not new.any()
    assert not y.any()


def test_what_is_not_set_does_nothing():
    x = torch.randn(B, T, F)
    same, mask = augmented(x, MASK, AugmentConfig(), Draws(0, 0), np.arange(B))
    assert same is x
    assert mask is MASK


@pytest.mark.parametrize(
    ("settings", "waveform", "message"),
    [
        ({"spec": {}}, True, "spec belongs to features"),
        ({"gain": {}, "mask": {}}, False, "gain belongs to data.audio=waveform; mask belongs"),
        ({"mixup": {}}, False, "set it to hidden"),
    ],
)
def test_steps_that_the_input_does_not_allow_are_refused(settings, waveform, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**settings).check(waveform, sole_audio=False)
