"""A blind estimate of the ratio of speech to noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def wada_snr(wave: np.ndarray) -> float:
    """Blind estimate of the signal-to-noise ratio of speech, dB within -20 to 100.

    Kim and Stern, "Robust signal-to-noise ratio estimation based on waveform amplitude
    distribution analysis", Interspeech 2008: speech amplitudes follow a Gamma distribution of
    shape 0.4, noise a Gaussian; how far ln of the mean amplitude lies above the mean of ln tells
    their ratio.

    Args:
        wave: float32 [samples], not silent.
    """
    amplitude = np.abs(wave - wave.mean(dtype=np.float64), dtype=np.float64)
    # A sample that reads 0 is somewhere within half a step of 16 bits, not infinitely quiet.
    np.maximum(amplitude, 2.0**-17, out=amplitude)
    gap = np.log(amplitude.mean()) - np.log(amplitude.astype(np.float32)).mean(dtype=np.float64)
    snr, curve = _wada_curve()
    return float(np.interp(gap, curve, snr))


@lru_cache(maxsize=1)
def _wada_curve() -> tuple[np.ndarray, np.ndarray]:
    """SNR (dB) and, at each, ln E|z| - E ln|z| of speech plus noise, by numerical integration.

    Speech has the amplitude x/b with x ~ Gamma(0.4, 1), noise is a standard Gaussian. Given a
    speech amplitude a, |z| is folded normal with a known mean, and z² is noncentral chi-square,
    whose expected logarithm is a Poisson mixture of digamma values. What is left is one integral
    over x, taken on a grid of ln x, where its integrand is smooth.
    """
    from scipy.special import digamma, erf, gammaln

    def mean_log(a: np.ndarray) -> np.ndarray:
        j = np.arange(600)
        half = a[:, None] ** 2 / 2
        poisson = np.exp(j * np.log(half) - half - gammaln(j + 1))
        return (np.log(2) + poisson @ digamma(j + 0.5)) / 2

    log_a = np.linspace(-9, np.log(20), 1500)
    near = mean_log(np.exp(log_a))

    shape = 0.4
    log_x, step = np.linspace(-60, 5, 3251, retstep=True)
    weight = np.exp(shape * log_x - np.exp(log_x) - gammaln(shape)) * step

    snr = np.arange(-20.0, 101.0)
    curve = np.empty_like(snr)
    for i, power in enumerate(10 ** (snr / 10)):
        log_amplitude = log_x + np.log(power / (shape * (shape + 1))) / 2  # E x² = shape (shape+1)
        a = np.exp(log_amplitude)
        mean = np.sqrt(2 / np.pi) * np.exp(-(a**2) / 2) + a * erf(a / np.sqrt(2))
        far = log_amplitude - 1 / (2 * a**2) - 3 / (4 * a**4)  # the expansion for a large a
        log_mean = np.where(a > 20, far, np.interp(log_amplitude, log_a, near))
        curve[i] = np.log(weight @ mean) - weight @ log_mean
    return snr, curve
