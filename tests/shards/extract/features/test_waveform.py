"""Waveforms as FLAC members: every sample comes back, damage does not pass."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import ConfigError, parse
from shards.extract import audio
from shards.extract.features import Extractor, FeatureConfig, waveform
from shards.store.index import open_dataset
from shards.store.read import DamagedSample, ShardReader
from shards.store.verify import find_faults
from shards.store.write import encode, write_shard


def shard_settings(small: Any, corpus: Path, folder: Path, **changes: Any) -> ShardConfig:
    return small.config(corpus, folder, **{"features": {"kinds": ["waveform"]}} | changes)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, corpus: Path, small: Any) -> Path:
    """A dataset of waveforms and tokens; do not change it."""
    folder = tmp_path_factory.mktemp("heard") / "shards"
    build(shard_settings(small, corpus, folder), workers=1)
    return folder


def test_sixteen_bits_come_back_and_no_more_is_lost() -> None:
    rng = np.random.default_rng(0)
    wave = np.concatenate((rng.uniform(-1, 1, 5000), [0, 1, -1, 1.5, -1.5, 0.25])).astype("f4")
    samples = waveform.quantise(wave)
    assert samples.dtype == np.int16
    assert samples[-6:].tolist() == [0, 32767, -32768, 32767, -32768, 8192]
    back, rate = waveform.decode(memoryview(waveform.encode(samples, 16000)))
    assert rate == 16000
    np.testing.assert_array_equal(back, samples)
    inside = np.abs(wave) < 0.9999
    assert np.abs((back / waveform.FULL_SCALE) - wave)[inside].max() <= 0.5 / 32768
    np.testing.assert_array_equal(waveform.quantise(back / waveform.FULL_SCALE), samples)


def test_other_files_are_refused() -> None:
    for data in (b"", b"no sound at all", waveform.encode(np.ones(5000, np.int16), 8000)[:60]):
        with pytest.raises(ValueError, match="FLAC"):
            waveform.decode(memoryview(data))
    stereo, wav = io.BytesIO(), io.BytesIO()
    soundfile.write(stereo, np.zeros((100, 2)), 8000, format="FLAC")
    soundfile.write(wav, np.zeros(100), 8000, format="WAV")
    for file, what in ((stereo, "2 channels"), (wav, "WAV")):
        with pytest.raises(ValueError, match=what):
            waveform.decode(memoryview(file.getvalue()))


def test_the_dataset_holds_what_was_heard(heard: Path, corpus: Path) -> None:
    """Clean turns to the bit of 16; every length in the index; nothing of spectrograms."""
    dataset = open_dataset(heard)
    reader = ShardReader(dataset, ["waveform", "logmel", "tokens"])
    names, variants = dataset.column("utterance"), dataset.column("variant")
    lengths = dataset.frames("waveform")
    seen = set()
    for row in range(len(dataset)):
        found = reader.read(row)
        assert found.keys() == {"waveform", "tokens"}
        assert found["waveform"].dtype == np.int16
        assert len(found["waveform"]) == lengths[row]
        seen.add(variants[row])
        if variants[row] == "clean":
            wave = audio.read(corpus / f"{names[row]}.wav", audio.AudioConfig(sample_rate=16000))
            np.testing.assert_array_equal(found["waveform"], waveform.quantise(wave))
    assert seen == {"clean", "noise", "shift"}
    assert dataset.manifest.features == {"kinds": ["waveform"], "sample_rate": 16000}
    assert not find_faults(heard, deep=True, workers=1)[1]


def test_any_player_opens_a_member(heard: Path) -> None:
    with tarfile.open(heard / "shard-00000.tar") as tar:
        [name, *_] = [one for one in tar.getnames() if one.endswith("__clean.flac")]
        member = tar.extractfile(name)
        assert member is not None
        samples, rate = soundfile.read(io.BytesIO(member.read()))
    assert rate == 16000
    assert len(samples) > 1000


def test_two_builds_write_the_same_bytes(
    heard: Path, corpus: Path, small: Any, tmp_path: Path
) -> None:
    build(shard_settings(small, corpus, tmp_path / "again"), workers=2)
    for path in heard.glob("shard-*.tar"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_flipped_bit_is_seen(heard: Path, copy_of: Any) -> None:
    folder = copy_of(heard)
    dataset = open_dataset(folder)
    row = 3
    place = {what: int(dataset.column(f"waveform.{what}")[row]) for what in ("offset", "size")}
    path = folder / f"shard-{int(dataset.column('shard')[row]):05d}.tar"
    data = bytearray(path.read_bytes())
    data[place["offset"] + place["size"] // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(DamagedSample) as caught:
        ShardReader(folder, ["waveform"]).read(row)
    assert (caught.value.member, caught.value.row) == ("waveform", row)
    faults = find_faults(folder, deep=True, workers=1)[1]
    assert any("waveform" in one.where and "CRC32" in one.what for one in faults)


def test_verify_sees_another_rate_and_length(
    heard: Path, corpus: Path, small: Any, copy_of: Any
) -> None:
    """Members that are whole, but not those that the manifest and the index describe."""
    from shards.build.claim import load
    from shards.build.merge import merge
    from shards.store import sidecar
    from shards.store.schema import Sample

    folder = copy_of(heard)
    old = sidecar.load(folder, 0)
    reader = ShardReader(folder, ["waveform", "tokens"])
    samples = [
        Sample(one.key, one.meta, reader.read(row), 16000) for row, one in enumerate(old.entries)
    ]
    samples[0] = Sample(samples[0].key, samples[0].meta, samples[0].arrays, 22050)
    samples[1].arrays["waveform"] = samples[1].arrays["waveform"][:-1]
    write_shard(folder, 0, old.build, old.utterances, samples)
    merge(folder, load(folder), max_rejected=1.0)
    faults = find_faults(folder, deep=True, workers=1)[1]
    assert [(samples[0].key in f.where, samples[1].key in f.where) for f in faults] == [
        (True, False),
        (False, True),
    ]
    assert "22050 samples a second, not 16000" in faults[0].what
    assert "shape" in faults[1].what


def test_beside_other_features_nothing_changes(speech: Any) -> None:
    wave = speech(0.5, 16000)
    both = Extractor(FeatureConfig(kinds=("waveform", "mfcc")), 16000)(wave)
    alone = Extractor(FeatureConfig(kinds=("mfcc",)), 16000)(wave)
    assert list(both) == ["waveform", "mfcc"]
    np.testing.assert_array_equal(both["mfcc"], alone["mfcc"])
    np.testing.assert_array_equal(both["waveform"], waveform.quantise(wave))


def test_encoding_needs_sixteen_bits_already(heard: Path) -> None:
    from shards.store.schema import Sample

    with pytest.raises(ValueError, match="int16"):
        encode(Sample("a__clean", {}, {"waveform": np.array([0.5, 0.25])}, 16000))


def test_unknown_kinds_are_refused(small: Any, tmp_path: Path) -> None:
    raw = small.settings(tmp_path, tmp_path / "x", features={"kinds": ["waveforms"]})
    with pytest.raises(ConfigError, match="waveform"):
        parse(ShardConfig, raw, "the test")
