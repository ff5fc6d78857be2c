"""The table of members: what the docstring says of it, and what follows from it."""

import re
from typing import Any

import pytest

from emo.data.config import DataConfig
from shards.configfile import ConfigError, parse
from shards.extract.features import FEATURES, FeatureConfig, with_needs
from shards.store import schema
from shards.store.codecs import CODECS
from shards.store.index import COLUMNS
from shards.store.schema import DTYPES, MEMBERS


def test_the_docstring_describes_every_member_in_the_order_of_the_tar() -> None:
    assert schema.__doc__ is not None
    rows = re.findall(r"^`<key>\.(\S+)`\s+(\w+)", schema.__doc__, re.MULTILINE)
    assert [ending for ending, _ in rows] == [member.ending for member in MEMBERS.values()]
    for (_, dtype), member in zip(rows, MEMBERS.values(), strict=True):
        if member.dtype is not None:
            assert dtype == member.dtype.name


def test_all_lists_follow_from_the_table() -> None:
    endings = [member.ending for member in MEMBERS.values()]
    assert endings == sorted(set(endings))  # the writer sorts, and names must not meet
    assert set(FEATURES) < set(MEMBERS)
    assert set(DTYPES) == set(MEMBERS) - {"json"}
    for name, member in MEMBERS.items():
        assert member.codec in CODECS
        assert {f"{name}.{what}" for what in ("offset", "size", "crc32")} <= set(COLUMNS)


def test_needs_come_first_and_once() -> None:
    assert with_needs(("mfcc",)) == ["logmel", "mfcc"]
    assert with_needs(("waveform", "mfcc", "logmel")) == ["logmel", "mfcc", "waveform"]
    for place, feature in enumerate(FEATURES.values()):
        assert set(feature.needs) <= set(list(FEATURES)[:place])


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (FeatureConfig, {"kinds": ["logmell"]}, r"kinds\.0: .*did you mean 'logmel'"),
        (FeatureConfig, {"lowlevl": {}}, r"lowlevl: .*did you mean 'lowlevel'"),
        (DataConfig, {"shards": "x", "audio": "mffc"}, r"audio: .*did you mean 'mfcc'"),
    ],
)
def test_a_misspelt_feature_is_met_with_what_was_meant(kind: Any, raw: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(kind, raw, "x.yaml")
