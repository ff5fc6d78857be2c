"""One table of modalities; a misspelt one is met with what was meant, wherever it is named."""

import pytest

from emo.config import ExperimentConfig
from emo.modalities import MODALITIES
from shards.configfile import ConfigError, parse


def settings(**changes):
    return {
        "name": "test",
        "data": {"shards": "none"},
        "model": {"text": {"build": {}}},
    } | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"init": {"txet": "runs/text"}},
        {"model": {"context": {"kind": "icon", "modalities": ["txet"]}}},
        {"model": {"txet": {"build": {}}}},
        {"model": {"text": {"build": {}}, "freeze": ["txet"]}},
    ],
)
def test_a_misspelt_modality(changes):
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        parse(ExperimentConfig, settings(**changes), "the test")


def test_keys_of_a_batch_are_told_apart():
    keys = [key for one in MODALITIES.values() for key in one.keys]
    assert len(set(keys)) == len(keys)


def test_descriptions_keep_the_names_that_trained_models_hold():
    """Runs and exports from before there was a table must still be rebuilt."""
    assert {name: (one.size, one.architecture) for name, one in MODALITIES.items()} == {
        "text": ("vocabulary", "architecture"),
        "audio": ("features", "speech"),
    }
