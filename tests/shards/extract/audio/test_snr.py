"""The blind estimate of the signal-to-noise ratio, on signals whose ratio is known."""

import numpy as np
import pytest

from shards.extract.audio.snr import _wada_curve, wada_snr


@pytest.mark.parametrize("snr", [-5, 0, 5, 10, 15, 20, 25, 30])
def test_wada_finds_the_snr_of_its_own_model(snr):
    rng = np.random.default_rng(snr + 100)
    speech = rng.gamma(0.4, size=100_000) * rng.choice([-1, 1], 100_000)
    noise = rng.standard_normal(100_000)
    speech *= np.sqrt(np.mean(noise**2) / np.mean(speech**2) * 10 ** (snr / 10))
    wave = (0.01 * (speech + noise) + 0.02).astype(np.float32)  # an offset must not matter
    assert wada_snr(wave) == pytest.approx(snr, abs=1.5)


def test_wada_curve_rises_from_noise_to_speech():
    _, curve = _wada_curve()
    assert (np.diff(curve) > 0).all()
    # For a Gaussian alone, ln E|n| - E ln|n| is known: (ln(2/pi) + Euler's constant + ln 2) / 2.
    assert curve[0] == pytest.approx((np.log(4 / np.pi) + np.euler_gamma) / 2, abs=1e-3)


def test_wada_orders_one_recording_by_its_noise(speech):
    wave = speech(4.0)
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    estimates = [wada_snr(wave + level * noise) for level in (0.1, 0.03, 0.01, 0.003)]
    assert estimates == sorted(estimates)
    assert -20 <= wada_snr(noise) < 0
    assert -20 <= wada_snr(np.sin(np.arange(9999, dtype=np.float32))) <= 100
