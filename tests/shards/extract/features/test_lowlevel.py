"""Low-level descriptors against librosa and against tones that are known."""

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import ConfigError, parse
from shards.extract.features import Extractor, FeatureConfig
from shards.extract.features.lowlevel import (
    ENERGY,
    F0,
    MFCC,
    STATIC,
    VOICE,
    ZERO_CROSSINGS,
    LowLevel,
    LowLevelConfig,
)
from shards.store.index import open_dataset
from shards.store.read import ShardReader
from shards.store.verify import check_dataset

RATE = 22050


@pytest.fixture(scope="module", params=["pyin", "yin"])
def descriptors(request):
    return LowLevel(LowLevelConfig(pitch=request.param), RATE)


def tone(pitch, seconds=0.6, rate=RATE):
    """A vowel-like sum of harmonics."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * n * pitch * time + n) / n for n in range(1, 12))
    return (0.1 * wave).astype(np.float32)


@pytest.mark.parametrize("pitch", [90.0, 140.0, 233.0, 390.0])
def test_pitch_of_a_known_voice(descriptors, pitch):
    inside = descriptors(tone(pitch))[5:-5]
    assert np.abs(inside[:, F0] / pitch - 1).max() < 0.02
    assert inside[:, VOICE].min() > (0.9 if descriptors.config.pitch == "yin" else 0.2)


def test_noise_and_silence_have_no_pitch(descriptors):
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32)
    for wave in (noise, np.zeros(RATE // 2, np.float32)):
        x_TF = descriptors(wave)
        assert (x_TF[:, F0] > 0).mean() < 0.05
        assert x_TF[:, VOICE].max() < 0.45
    assert (x_TF[:, ENERGY] == -100).all()


def test_energy_and_zero_crossings_of_a_sine():
    time = np.arange(RATE) / RATE
    wave = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    inside = LowLevel(LowLevelConfig(pitch="yin"), RATE)(wave)[5:-5]
    # A sine crosses zero twice a period; its mean square is half of 0.5 squared.
    assert np.abs(inside[:, ZERO_CROSSINGS] * RATE / 2000 - 1).max() < 0.03
    assert np.abs(inside[:, ENERGY] - 10 * np.log10(0.125)).max() < 0.05


def test_every_column_is_librosas(descriptors, speech):
    wave = speech(1.0)
    x_TF = descriptors(wave)
    frames = {"frame_length": 552, "hop_length": 220}
    pitch = {"fmin": 65, "fmax": 500, "sr": RATE, "frame_length": 1024, "hop_length": 220}
    assert x_TF.shape == (1 + len(wave) // 220, 32)
    assert x_TF.dtype == np.float32
    if descriptors.config.pitch == "pyin":
        f0, _, voice = librosa.pyin(wave, fill_na=0.0, **pitch)
        np.testing.assert_allclose(x_TF[:, VOICE], voice, rtol=1e-6)
    else:
        f0 = np.where(x_TF[:, F0] > 0, librosa.yin(wave, **pitch), 0)
    np.testing.assert_allclose(x_TF[:, F0], f0, rtol=1e-6)
    crossings = librosa.feature.zero_crossing_rate(wave, **frames)[0]
    np.testing.assert_allclose(x_TF[:, ZERO_CROSSINGS], crossings, rtol=1e-6)
    loudness = librosa.feature.rms(y=wave, **frames)[0]
    expected = 10 * np.log10(np.maximum(loudness**2, 1e-10))
    np.testing.assert_allclose(x_TF[:, ENERGY], expected, atol=1e-3)
    power = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=552, hop_length=220, n_mels=26)
    coefficients = librosa.feature.mfcc(S=10 * np.log10(np.maximum(power, 1e-10)), n_mfcc=13)[1:]
    np.testing.assert_allclose(x_TF[:, MFCC], coefficients.T, atol=2e-3)
    np.testing.assert_array_equal(x_TF[0, STATIC:], 0)
    np.testing.assert_allclose(x_TF[1:, STATIC:], np.diff(x_TF[:, :STATIC], axis=0), atol=1e-5)


@pytest.mark.parametrize("samples", [1, 7, 219, 220, 1500])
def test_the_shortest_waves(descriptors, samples):
    wave = np.random.default_rng(1).standard_normal(samples).astype(np.float32)
    x_TF = descriptors(wave)
    assert x_TF.shape == (1 + samples // 220, 32)
    assert np.isfinite(x_TF.astype(np.float16)).all()


def test_settings():
    with pytest.raises(ValidationError, match="at least twice fmin"):
        LowLevelConfig(fmin=200, fmax=300)
    # Nothing of it shows in datasets without it: their settings, so their bytes, stay.
    assert "lowlevel" not in FeatureConfig().model_dump()
    chosen = FeatureConfig(kinds=("lld",), lowlevel={"pitch": "yin"})
    assert chosen.model_dump()["lowlevel"]["pitch"] == "yin"
    assert FeatureConfig.model_validate(chosen.model_dump()) == chosen


def test_variants_go_without():
    extract = Extractor(FeatureConfig(kinds=("logmel", "lld"), lowlevel={"pitch": "yin"}), RATE)
    assert list(extract(tone(200.0))) == ["logmel", "lld"]
    assert list(extract(tone(200.0), clean=False)) == ["logmel"]


def features(kinds):
    return {"kinds": kinds, "n_fft": 512, "mels": 16, "lowlevel": {"pitch": "yin"}}


def test_built_read_and_verified(small, corpus, tmp_path):
    folder = tmp_path / "shards"
    build(small.config(corpus, folder, features=features(["logmel", "lld"])), workers=1)
    dataset = open_dataset(folder)
    reader = ShardReader(dataset, ["logmel", "lld"])
    logmel, lld = dataset.frames("logmel"), dataset.frames("lld")
    for row, variant in enumerate(dataset.column("variant")):
        arrays = reader.read(row)
        assert len(arrays["logmel"]) == logmel[row]
        assert ("lld" in arrays) == (variant == "clean")
        assert len(arrays.get("lld", ())) == lld[row]
    assert lld.max() > 0
    assert arrays["logmel"].dtype == np.float16
    assert check_dataset(folder, deep=True).features["lowlevel"]["pitch"] == "yin"


def test_datasets_without_it_are_what_they_were(small, corpus, built, tmp_path):
    """Neither the settings of the new kind nor the kind itself may reach other datasets' shards."""
    folder = tmp_path / "shards"
    other = small.settings(corpus, folder)
    other["features"] |= {"lowlevel": {"pitch": "yin", "hop": 0.02}}
    build(parse(ShardConfig, other, "the test"), workers=1)
    before, after = small.contents(built), small.contents(folder)
    tars = [name for name in before if name.startswith("shard-")]
    assert tars
    assert all(before[name] == after[name] for name in tars)
    assert open_dataset(folder).manifest.dataset_hash == open_dataset(built).manifest.dataset_hash


def test_alone_it_wants_no_variants(small, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"set augment\.variants"):
        small.config(corpus, tmp_path / "shards", features=features(["lld"]))
    folder = tmp_path / "shards"
    build(
        small.config(corpus, folder, features=features(["lld"]), augment={"variants": []}),
        workers=1,
    )
    assert set(open_dataset(folder).column("variant")) == {"clean"}
    check_dataset(folder, deep=True)
