import numpy as np
import pytest

from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError

CONFIG = AudioConfig()
RATE = 22050


@pytest.fixture
def tone():
    rng = np.random.default_rng(0)
    wave = 0.4 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)
    return (wave + 0.01 * rng.standard_normal(RATE)).astype(np.float32)


@pytest.fixture
def load(tmp_path):
    def loads(data, segment=None, config=CONFIG):
        (tmp_path / "recording").write_bytes(data)
        return audio.load(tmp_path / "recording", config, segment)

    return loads


@pytest.fixture
def kind_of(load):
    def kind(data, **settings):
        with pytest.raises(AudioError) as caught:
            load(data, **settings)
        return caught.value.kind

    return kind
