from pathlib import Path

import pytest

from shards.config import ShardConfig
from shards.configfile import ConfigError, load, parse


def test_shipped_configurations_are_valid() -> None:
    files = sorted(Path("configs/shards").glob("*.yaml"))
    assert {"iemocap.yaml", "sample.yaml"} <= {path.name for path in files}
    for path in files:
        load(ShardConfig, path)


def test_paper_values_of_iemocap() -> None:
    config = load(ShardConfig, "configs/shards/iemocap.yaml")
    assert config.audio.sample_rate == 22050
    assert config.text is not None
    assert config.text.tokenizer == "bert-base-cased"
    assert config.augment.variants == ("noise", "pitch", "stretch", "shift")


def test_reports_all_errors_at_once(small, tmp_path: Path) -> None:
    raw = small.settings(tmp_path, tmp_path / "out", labels="fife", sede=3)
    raw["output"]["utterances_per_shard"] = 0
    raw["features"]["mells"] = 3
    with pytest.raises(ConfigError) as caught:
        parse(ShardConfig, raw, "x.yaml")
    message = str(caught.value)
    assert "4 problems" in message
    for part in (
        "'fife'",
        "did you mean 'five'",
        "did you mean 'seed'",
        "utterances_per_shard",
        "did you mean 'mels'",
    ):
        assert part in message


def test_refuses_a_dataset_of_nothing(small, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to write"):
        small.config(tmp_path, tmp_path / "out", features=None, text=None)


def test_settings_are_what_decides_the_bytes(small, tmp_path: Path) -> None:
    def settings(**changes: object) -> dict:
        return small.config(tmp_path / "c", tmp_path / "out", **changes).settings()

    moved = small.config(tmp_path / "elsewhere", tmp_path / "there").settings()
    assert settings() == moved
    assert settings() != settings(seed=5)
    assert settings() != settings(labels="five")
    limit = {"folder": "f", "utterances_per_shard": 8, "max_rejected": 0.9}
    assert settings() == settings(output=limit)
    assert settings() != settings(output=limit | {"utterances_per_shard": 9})
    assert "augment" not in settings(features=None)
    assert "vocabulary_view" not in settings(text=None)
