"""What each augmentation does to a wave, measured on the result."""

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from emo.data.config import DataConfig
from shards.configfile import ConfigError, parse
from shards.extract.augment import (
    PAPER_VARIANTS,
    VARIANTS,
    AugmentConfig,
    variant_rng,
    variants,
)
from shards.extract.augment.noise import add_noise
from shards.extract.augment.pitch import shift_pitch
from shards.extract.augment.vocoder import analyse, stretch
from shards.extract.features import Extractor, FeatureConfig

RATE = 22050


def harmonic(f0, seconds=2.0, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * n * f0 * time + n) / n for n in range(1, 9))
    return (0.2 * wave).astype(np.float32)


def fundamental(wave, rate=RATE):
    """F0 (Hz) of a steady harmonic tone: the lowest strong peak of a fine spectrum."""
    inner = wave[len(wave) // 8 : -len(wave) // 8]
    size = 2**20
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), size))
    # Every harmonic is weaker than F0 by construction (1/n).
    return spectrum.argmax() * rate / size


def power(wave):
    return float(np.mean(wave.astype(np.float64) ** 2))


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_has_the_asked_snr(speech, snr):
    wave = speech()
    noisy = add_noise(wave, snr, np.random.default_rng(0))
    assert noisy.dtype == np.float32
    measured = 10 * np.log10(power(wave) / power(noisy - wave))
    assert measured == pytest.approx(snr, abs=0.05)


def test_noise_is_white_and_unrelated_to_the_wave(speech):
    wave = speech()
    noise = add_noise(wave, 10, np.random.default_rng(0)) - wave
    assert abs(np.corrcoef(noise, wave)[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("semitones", [-4.0, -2.0, -0.5, 0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("f0", [95.0, 210.0])
def test_pitch_moves_f0_and_keeps_the_length(semitones, f0):
    wave = harmonic(f0)
    moved = shift_pitch(analyse(wave, RATE), semitones)
    assert len(moved) == len(wave)
    assert moved.dtype == np.float32
    assert fundamental(moved) / f0 == pytest.approx(2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("rate", [0.6, 0.85, 1.0, 1.15, 1.9])
def test_stretch_changes_the_length_and_keeps_f0(rate):
    wave = harmonic(150.0)
    other = stretch(analyse(wave, RATE), rate)
    assert len(other) == round(len(wave) / rate)
    assert other.dtype == np.float32
    assert fundamental(other) == pytest.approx(150.0, rel=0.01)


def test_stretch_keeps_the_order_of_events_in_proportion():
    wave = np.zeros(2 * RATE, dtype=np.float32)
    for at in (0.3, 1.0, 1.7):
        start = round(at * RATE)
        wave[start : start + 2000] = harmonic(200.0)[:2000]
    for rate in (0.85, 1.15):
        other = stretch(analyse(wave, RATE), rate)
        level = np.convolve(np.abs(other), np.ones(500) / 500, "same")
        starts = np.flatnonzero(np.diff((level > 0.3 * level.max()).astype(int)) == 1) / RATE
        np.testing.assert_allclose(starts, np.array([0.3, 1.0, 1.7]) / rate, atol=0.03)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_doing_nothing_changes_nothing_audible(speech, rate):
    wave = speech(2.0, rate)
    extract = Extractor(FeatureConfig(kinds=["logmel"], mels=32), rate)
    before = extract(wave)["logmel"]
    for other in (stretch(analyse(wave, rate), 1.0), shift_pitch(analyse(wave, rate), 0.0)):
        error = (extract(other)["logmel"] - before)[before > before.max() - 40]
        assert np.sqrt(np.mean(error**2)) < 2  # dB


@pytest.mark.parametrize("rate", [0.85, 1.15])
def test_a_stretched_voice_is_the_voice_speaking_slower_or_faster(rate):
    def voice(tempo):
        time = np.arange(round(4 * RATE / tempo)) / RATE
        phase = 2 * np.pi * np.cumsum(130 * (1 + 0.05 * np.sin(4.4 * tempo * time))) / RATE
        tone = sum(np.sin(n * phase + n * n) / n for n in range(1, 60))
        syllables = np.clip(np.sin(12.6 * tempo * time) + 0.3, 0, None) ** 1.5
        noise = np.random.default_rng(0).standard_normal(len(time))
        return (0.1 * tone * syllables + 1e-4 * noise).astype(np.float32)

    def off(wave):
        """Root mean square error (dB) of the log-mel where the voice is loud."""
        logmel = Extractor(FeatureConfig(kinds=["logmel"], mels=64), RATE)(wave)["logmel"]
        return np.sqrt(np.mean((logmel - ideal)[ideal > ideal.max() - 40] ** 2))

    ideal = Extractor(FeatureConfig(kinds=["logmel"], mels=64), RATE)(voice(rate))["logmel"]
    ours = off(stretch(analyse(voice(1), RATE), rate))
    assert ours < 2
    assert ours < off(librosa.effects.time_stretch(voice(1), rate=rate)) / 2


def test_loudness_stays(speech):
    wave = speech(4.0)
    analysis = analyse(wave, RATE)
    for other in (stretch(analysis, 0.85), stretch(analysis, 1.15), shift_pitch(analysis, 2.0)):
        assert 10 * np.log10(power(other) / power(wave)) == pytest.approx(0, abs=0.5)


def test_sound_comes_back_after_digital_silence(speech):
    wave = speech(3.0)
    wave[10000:30000] = 0
    for rate in (0.9, 1.1):
        other = stretch(analyse(wave, RATE), rate)
        assert np.abs(other[round(14000 / rate) : round(26000 / rate)]).max() < 1e-6
        assert power(other[round(30000 / rate) :]) == pytest.approx(power(wave[30000:]), rel=0.2)


@pytest.mark.parametrize("samples", [1103, 2048, 5000])
def test_short_waves(speech, samples):
    wave = speech()[:samples]
    made = dict(variants(wave, RATE, AugmentConfig(), 1, "u"))
    assert all(np.isfinite(one).all() for one in made.values())
    assert len(made["pitch"]) == len(made["noise"]) == len(made["shift"]) == samples


def test_variants_are_as_configured_and_within_their_ranges(speech):
    wave = harmonic(150.0)
    config = AugmentConfig(
        noise_snr=(5, 8), pitch_semitones=(1, 1.5), stretch_rate=(1.1, 1.2), shift_share=(0.2, 0.3)
    )
    for i in range(5):
        made = dict(variants(wave, RATE, config, 1, f"utterance {i}"))
        assert tuple(made) == ("noise", "pitch", "stretch", "shift")
        snr = 10 * np.log10(power(wave) / power(made["noise"] - wave))
        assert 4.9 <= snr <= 8.1
        assert 12 * np.log2(fundamental(made["pitch"]) / 150) == pytest.approx(1.25, abs=0.3)
        assert 1.09 <= len(wave) / len(made["stretch"]) <= 1.21
        shifts = range(len(wave) // 5, 3 * len(wave) // 10 + 1)
        assert any(np.array_equal(np.roll(wave, n), made["shift"]) for n in shifts)


def test_draws_depend_on_seed_utterance_and_variant_alone(speech):
    wave = speech()
    every = dict(variants(wave, RATE, AugmentConfig(), 3, "u"))
    for name, one in every.items():
        alone = dict(variants(wave, RATE, AugmentConfig(variants=(name,)), 3, "u"))
        np.testing.assert_array_equal(alone[name], one)
    for other in (
        dict(variants(wave, RATE, AugmentConfig(), 4, "u")),
        dict(variants(wave, RATE, AugmentConfig(), 3, "v")),
    ):
        assert not any(np.array_equal(every[name], other[name]) for name in every)
    draws = {float(variant_rng(0, u, v).random()) for u in ("a", "b", "a1") for v in ("x", "1x")}
    assert len(draws) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": ["echo"]},
        {"variants": ["noise", "noise"]},
        {"noise_snr": [20, 10]},
        {"pitch_semitones": [-13, 0]},
        {"stretch_rate": [0.4, 1]},
        {"shift_share": [0, 1.5]},
    ],
)
def test_settings_out_of_bounds(wrong):
    with pytest.raises(ValidationError):
        AugmentConfig(**wrong)


def test_an_unknown_variant_is_met_with_what_was_meant():
    with pytest.raises(ConfigError, match=r"variants\.1.*did you mean 'stretch'"):
        parse(AugmentConfig, {"variants": ["noise", "strech"]}, "augment.yaml")
    with pytest.raises(ConfigError, match=r"variants.*did you mean 'noise'"):
        parse(DataConfig, {"shards": "x", "variants": ["clean", "nois"]}, "run.yaml")
    with pytest.raises(ConfigError, match=r"noise_snt.*did you mean 'noise_snr'"):
        parse(AugmentConfig, {"noise_snt": [1, 2]}, "augment.yaml")


def test_configurations_that_name_no_variants_mean_the_papers_four():
    """Whatever is registered later: old configurations and runs leave this to the default."""
    four = ("noise", "pitch", "stretch", "shift")
    assert four == PAPER_VARIANTS == AugmentConfig().variants
    assert DataConfig(shards="x").variants == ("clean", *four)
    assert set(four) <= set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_every_variant_of_the_list_is_made_by_its_name_and_range(speech, variant):
    """At both ends of its default range; its setting has a place in the configuration."""
    wave = speech(1.0)
    for end in variant.default:
        config = AugmentConfig(variants=(variant.name,), **{variant.setting: (end, end)})
        [(name, made)] = variants(wave, RATE, config, 1, "u")
        assert name == variant.name
        assert made.dtype == np.float32
        assert made.ndim == 1
        assert np.isfinite(made).all()
        assert not np.array_equal(made, wave)
    assert variant.check_range(variant.default) == variant.default
    with pytest.raises(ValueError, match=r"low, high"):
        variant.check_range(variant.default[::-1])
