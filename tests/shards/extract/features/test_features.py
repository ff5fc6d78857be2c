"""Features equal librosa's, and do not change with threads or processes."""

import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from shards.extract.features import Extractor, FeatureConfig
from shards.extract.spectrum import FeatureError


def error(ours, theirs):
    """The largest error over the largest magnitude."""
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def reference(wave, rate, config):
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=rate,
        n_fft=config.n_fft,
        hop_length=config.hop,
        n_mels=config.mels,
        fmin=config.fmin,
        fmax=config.fmax,
    )
    logmel = 10 * np.log10(np.maximum(power, 1e-10))
    return logmel.T, librosa.feature.mfcc(S=logmel, n_mfcc=config.coefficients).T


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 22050),
        ({"mels": 64, "hop": 512}, 22050),
        ({"n_fft": 2048, "hop": 300, "fmin": 50.0, "fmax": 8000.0}, 22050),
        ({"n_fft": 400, "hop": 160, "mels": 40, "coefficients": 13}, 16000),
    ],
)
@pytest.mark.parametrize("seconds", [0.1, 1.0, 4.6])
def test_equal_to_librosa(speech, settings, rate, seconds):
    config = FeatureConfig(**settings)
    wave = speech(seconds, rate)
    made = Extractor(config, rate)(wave)
    logmel, mfcc = reference(wave, rate, config)
    assert list(made) == ["logmel", "mfcc"]
    assert error(made["logmel"], logmel) < 1e-5
    assert error(made["mfcc"], mfcc) < 1e-5
    assert len(made["logmel"]) == 1 + len(wave) // config.hop
    for value in made.values():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous


def test_digital_silence_is_the_floor():
    made = Extractor(FeatureConfig(), 22050)(np.zeros(5000, dtype=np.float32))
    np.testing.assert_allclose(made["logmel"], -100, atol=1e-4)


def test_only_what_is_asked_for(speech):
    assert list(Extractor(FeatureConfig(kinds=["mfcc"]), 22050)(speech())) == ["mfcc"]
    assert list(Extractor(FeatureConfig(kinds=["logmel"]), 22050)(speech())) == ["logmel"]


def test_the_wave_is_left_alone_and_the_result_is_new(speech):
    wave = speech()
    before = wave.copy()
    extract = Extractor(FeatureConfig(), 22050)
    first = extract(wave)
    kept = {kind: value.copy() for kind, value in first.items()}
    extract(speech(seed=5))
    np.testing.assert_array_equal(wave, before)
    for kind, value in first.items():
        np.testing.assert_array_equal(value, kept[kind])


PRINT_DIGEST = """
import hashlib, sys
import numpy as np
from shards.extract.augment import AugmentConfig, variants
from shards.extract.features import Extractor, FeatureConfig
wave = np.load(sys.argv[1])
extract = Extractor(FeatureConfig(), 22050)
digest = hashlib.sha256()
for name, one in [("clean", wave), *variants(wave, 22050, AugmentConfig(), 7, "Ses01F_F000")]:
    for kind, value in extract(one).items():
        digest.update(name.encode() + kind.encode() + value.tobytes())
print(digest.hexdigest())
"""


def test_bytes_are_the_same_in_every_process_and_with_any_threads(tmp_path, speech):
    np.save(tmp_path / "wave.npy", speech(4.6))
    digests = set()
    for threads in ("1", "2", "5"):
        counts = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads
        )
        done = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST, str(tmp_path / "wave.npy")],
            env=os.environ | counts | {"PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_settings_that_do_not_fit():
    with pytest.raises(FeatureError, match=r"fmax.*half the sampling rate.*8000"):
        Extractor(FeatureConfig(fmax=5000), 8000)
    with pytest.raises(FeatureError, match=r"mels = 256.*fewer mels or a larger n_fft"):
        Extractor(FeatureConfig(mels=256, n_fft=512), 22050)
    for wrong in (
        {"hop": 2048},
        {"coefficients": 129},
        {"kinds": ["logmel", "logmel"]},
        {"kinds": []},
        {"fmin": 4000, "fmax": 3000},
        {"n_fft": 1023},
    ):
        with pytest.raises(ValidationError):
            FeatureConfig(**wrong)


def test_log_mel_equals_torchaudios_too(speech):
    """A second reference that shares no code with the first."""
    import torch
    import torchaudio

    wave, config = speech(1.0, 22050), FeatureConfig()
    mel = torchaudio.transforms.MelSpectrogram(
        22050, config.n_fft, hop_length=config.hop, n_mels=config.mels, norm="slaney",
        mel_scale="slaney", pad_mode="constant",
    )  # fmt: skip
    theirs = 10 * np.log10(np.maximum(mel(torch.from_numpy(wave)).numpy().T, 1e-10))
    assert error(Extractor(config, 22050)(wave)["logmel"], theirs) < 1e-3
