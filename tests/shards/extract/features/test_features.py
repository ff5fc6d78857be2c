"""Features equal librosa's, and do not change with threads or processes."""

import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from shards.extract.features import Extractor, FeatureConfig
from shards.extract.spectrum import FeatureError, SpectrumConfig, mel_filters


def error(ours, theirs):
    """The largest error over the largest magnitude."""
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mels": 26, "fmin": 50.0},
        {"n_fft": 2048, "mels": 40, "fmin": 1200.5, "fmax": 3900.0},
        {"n_fft": 512, "mels": 13, "fmax": 900.0},
    ],
)
def test_themel_filters_are_librosas_to_the_last_bit(settings, rate):
    config = SpectrumConfig(**settings)
    theirs = librosa.filters.mel(
        sr=rate, n_fft=config.n_fft, n_mels=config.mels, fmin=config.fmin, fmax=config.fmax
    )
    if theirs.any(axis=1).all():
        np.testing.assert_array_equal(mel_filters(config, rate), theirs)
    else:
        with pytest.raises(FeatureError, match="catch no frequency"):
            mel_filters(config, rate)


WITHOUT_A_HOME = """
import os, sys
import numpy as np
writable = os.access
read_only = tuple(sys.argv[2:])
os.access = lambda path, mode: writable(path, mode) and not str(path).startswith(read_only)
from shards.extract.features import Extractor, FeatureConfig
extract = Extractor(FeatureConfig(kinds=[sys.argv[1]]), 16000)
if sys.argv[1] == "lld":  # calling it would compile for half a minute
    import numba
    print(os.path.isdir(numba.config.CACHE_DIR), numba.config.CACHE_DIR)
else:
    wave = np.sin(np.arange(8000) / 9).astype(np.float32)
    print(extract(wave)[sys.argv[1]].shape, "numba" in sys.modules)
"""


def test_a_read_only_environment_without_a_home_is_enough(tmp_path):
    """In a container nothing but the temporary folder may be writable."""
    (tmp_path / "tmp").mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))
    } | {"HOME": "/dev/null/none", "TMPDIR": str(tmp_path / "tmp")}

    def run(kind):
        command = [sys.executable, "-c", WITHOUT_A_HOME, kind, sys.prefix, "/dev"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")

    assert run("logmel")[0] == "(32, 128) False"
    assert run("lld")[0].startswith(f"True {tmp_path / 'tmp'}/emo-numba-")
    assert not list((tmp_path / "tmp").glob("emo-numba-*"))


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
