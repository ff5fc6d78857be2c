from pathlib import Path

import pytest

from shards.build import claim
from shards.config import FIRST_SETTINGS, ShardConfig
from shards.configfile import Config, ConfigError, digest, load, parse
from shards.corpora.read import read_corpus
from shards.extract.augment import AugmentConfig


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


def test_the_vocabulary_is_learnt_with_the_labels_of_the_build(small, tmp_path: Path) -> None:
    def labels(**changes: object) -> object:
        return small.config(tmp_path, tmp_path, **changes).learning_view.labels

    own = {"good": ["hap", "awe"], "bad": ["ang"]}
    assert labels(labels=own, vocabulary_view={"test": 0.3}) == {
        "good": ("hap", "awe"),
        "bad": ("ang",),
    }
    assert labels(labels="six", vocabulary_view={"labels": "four"}) == "four"


# Digests of settings as they were when the first datasets were made.
DIGESTS = [
    ({}, "94e7b6c1ce7ff98759ab398c016acee5e00a48aa47cb63ed6c67e42caa40ff2d"),
    (
        {"features": {"kinds": ["waveform"]}, "text": None},
        "ed78440526adc0475fb2bf97f8fea88d4f38eb26cb68239cc87b1427f6a65506",
    ),
    (
        {
            "features": {"kinds": ["lld", "logmel"], "lowlevel": {"pitch": "yin"}},
            "text": {"tokenizer": "bert-base-cased"},
            "augment": {"stretch_rate": [0.9, 1.1]},
        },
        "93a9604b669470886ff7e14564d1387aa3b1f35861ade2f070fa5552dea3a004",
    ),
    (
        {"features": None, "vocabulary_view": {"protocol": "official"}},
        "802373704f373af7c06a2f6f499188f32edd8ffc46ea199e6a17aae590a15862",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), DIGESTS)
def test_settings_keep_their_digest(small, tmp_path: Path, changes: dict, expected: str) -> None:
    """If this fails, every dataset that exists has become one "of another build"."""
    config = small.config(tmp_path, tmp_path / "out", **changes)
    assert digest(config.settings()) == expected


class Echo(Config):
    delay: float = 0.1
    decay: float = 0.5


class LaterAugment(AugmentConfig):
    echo_share: float = 0.0
    echo: Echo = Echo()


class LaterConfig(ShardConfig):
    """The configuration of some later version: two settings and a section more."""

    augment: LaterAugment = LaterAugment()
    dithered: bool = False


def test_a_later_setting_at_its_default_leaves_old_datasets_as_they_are(
    small, corpus: Path, built: Path, tmp_path: Path
) -> None:
    raw = small.settings(corpus, built)
    now, later = parse(ShardConfig, raw, "now"), parse(LaterConfig, raw, "later")
    assert later.settings() == now.settings()
    raw["augment"]["echo"] = {"delay": 0.1}  # said, but the default
    said = parse(LaterConfig, raw, "later")
    assert said.settings() == now.settings()

    utterances = read_corpus(now.corpus).utterances
    old = claim.load(built)
    assert claim.claim(built, later, utterances) == old
    claim.check_settings(built, old, later)


def test_a_later_setting_that_is_used_makes_another_dataset(
    small, corpus: Path, built: Path, tmp_path: Path
) -> None:
    raw = small.settings(corpus, built)
    raw["augment"]["echo"] = {"delay": 0.1, "decay": 0.7}
    later = parse(LaterConfig, raw, "later")
    assert later.settings()["augment"]["echo"] == {"decay": 0.7}
    utterances = read_corpus(later.corpus).utterances
    with pytest.raises(claim.OtherBuild, match=r"augment\.echo"):
        claim.claim(built, later, utterances)
    with pytest.raises(claim.OtherBuild, match=r"augment\.echo"):
        claim.check_settings(built, claim.load(built), later)


def test_the_first_settings_are_all_still_there(small, tmp_path: Path) -> None:
    def leaves(settings: dict, above: str = "") -> set[str]:
        return {
            path
            for name, value in settings.items()
            for path in (
                leaves(value, f"{above}{name}.") if isinstance(value, dict) else {above + name}
            )
        }

    kinds = {"kinds": ["logmel", "lld"]}
    settings = small.config(tmp_path, tmp_path / "out", features=kinds).settings()
    assert leaves(settings) == FIRST_SETTINGS
