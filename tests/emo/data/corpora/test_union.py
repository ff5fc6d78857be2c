"""Several datasets as one: rows, names, hashes, and what must agree."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo.config import ExperimentConfig
from emo.data.config import DataConfig
from emo.data.corpora.agreement import disagreements
from emo.data.corpora.masks import ClassMasks
from emo.data.corpora.union import Corpora, CorporaError, open_data
from shards.configfile import ConfigError, dump, parse
from shards.corpora.labels import label_set
from shards.store.index import open_dataset
from shards.store.read import DamagedSample, ShardReader

Two = tuple[Path, Path]


def test_rows_are_those_of_the_datasets_with_the_corpus_in_front(two: Two) -> None:
    both = open_data(two)
    assert isinstance(both, Corpora)
    assert both.names == ("alba", "bruno")
    parts = [open_dataset(folder) for folder in two]
    assert len(both) == sum(map(len, parts))
    assert both.corpus.tolist() == [0] * len(parts[0]) + [1] * len(parts[1])
    reader = ShardReader(both, ("logmel", "tokens"))
    row = 0
    for name, part in zip(both.names, parts, strict=True):
        alone = ShardReader(part, ("logmel", "tokens"))
        for own in range(len(part)):
            for column in ("utterance", "speaker", "dialogue", "session"):
                assert both.column(column)[row] == f"{name}/{part.column(column)[own]}"
            assert both.column("corpus")[row] == name
            assert both.column("recording")[row] == part.column("recording")[own]
            one, other = reader.read(row), alone.read(own)
            assert all(np.array_equal(one[member], other[member]) for member in other)
            assert reader.key(row) == alone.key(own)
            row += 1
    assert np.array_equal(
        both.frames("logmel"), np.concatenate([part.frames("logmel") for part in parts])
    )


def test_one_dataset_is_itself_and_the_order_of_several_changes_nothing(two: Two) -> None:
    assert type(open_data(two[0])) is type(open_data((two[0],)))
    assert open_data(two[0]).manifest == open_dataset(two[0]).manifest
    both, turned = open_data(two), open_data(two[::-1])
    weighted = open_data({two[1]: 3.0, two[0]: 1.0})
    for other in (turned, weighted):
        assert other.manifest.dataset_hash == both.manifest.dataset_hash
        assert other.table.equals(both.table)
    assert both.manifest.dataset_hash not in [
        open_dataset(folder).manifest.dataset_hash for folder in two
    ]


def test_a_moved_dataset_keeps_name_and_hash(two: Two, tmp_path: Path) -> None:
    moved = shutil.copytree(two[1], tmp_path / "elsewhere")
    again, both = open_data((two[0], moved)), open_data(two)
    assert isinstance(again, Corpora)
    assert again.names == ("alba", "bruno")
    assert again.manifest.dataset_hash == both.manifest.dataset_hash


def test_the_same_corpus_twice_is_refused(two: Two, tmp_path: Path) -> None:
    copy = shutil.copytree(two[1], tmp_path / "copy")
    with pytest.raises(CorporaError, match="hold the same turns of one corpus"):
        open_data((two[0], two[1], copy))


def test_damage_names_the_dataset_that_it_is_in(two: Two, tmp_path: Path) -> None:
    copy = shutil.copytree(two[1], tmp_path / "damaged")
    both = open_data((two[0], copy))
    row = int(np.flatnonzero((both.corpus == 1) & (both.column("variant") == "clean"))[40])
    at = both.column("logmel.offset")[row]
    place = sorted(copy.glob("*.tar"))[
        both.column("shard")[row] - both.column("shard")[both.corpus == 1].min()
    ]
    data = bytearray(place.read_bytes())
    data[int(at) + 200] ^= 1
    place.write_bytes(bytes(data))
    with pytest.raises(DamagedSample, match=f"{place}: .*emo-shards build {copy}"):
        ShardReader(both, ("logmel",)).read(row)


def test_a_class_that_a_corpus_never_has_is_masked(two: Two) -> None:
    both = open_data(two)
    masks = ClassMasks.of_dataset(both, label_set("four"))
    assert masks is not None
    assert masks.absent(("alba", "bruno"), label_set("four").classes) == {"bruno": ["sadness"]}
    rows = np.array([0, -1, len(both) - 1])
    assert masks.of(rows).tolist() == [[True] * 4, [True] * 4, [True, True, True, False]]
    common = label_set({"bad": ("ang",), "good": ("hap",), "none": ("neu",)})
    assert ClassMasks.of_dataset(both, common) is None
    assert ClassMasks.of_dataset(open_dataset(two[1]), label_set("four")) is None


def test_what_was_made_differently_is_named_with_the_remedy(two: Two, tmp_path: Path) -> None:
    from corpora_made import build_corpus

    assert disagreements(open_data(two), feature="logmel", text=True) == []
    learn = {"learn": {"vocab_size": 64, "min_frequency": 1}, "max_tokens": 12}
    other = build_corpus(
        two[0].parent, "bruno", tmp_path / "other", text=learn,
        audio={"sample_rate": 16000}, vocabulary_view={"labels": {"a": ["ang"], "b": ["hap"]}},
        features={"kinds": ["logmel"], "n_fft": 256, "hop": 128, "mels": 20},
    )  # fmt: skip
    both = open_data((two[0], other))
    said = disagreements(both, feature="logmel", text=True)
    wanted = (
        "audio.sample_rate=8000", "features.mels=16", f"text.tokenizer={two[0] / 'tokenizer'}",
        "text.max_tokens=16",
    )  # fmt: skip
    assert len(said) == len(wanted)
    for line, setting in zip(said, wanted, strict=True):
        assert line.endswith(f"build {other} again with {setting}")
    assert disagreements(both, feature=None, text=False) == []
    assert "has no mfcc" in disagreements(open_data(two), feature="mfcc", text=False)[0]


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([], "name a folder, a list"),
        ({}, "name a folder, a list"),
        (3, "name a folder, a list"),
        ({"a": 0}, "above 0"),
        ({"a": "x"}, "above 0"),
        (["a", "a"], "named twice"),
    ],
)
def test_senseless_shards_are_refused(shards: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"1 problem in the test:\n  shards: .*{said}"):
        parse(DataConfig, {"shards": shards}, "the test")


def test_a_configuration_with_several_survives_its_dump(two: Two, make_settings: Any) -> None:
    import yaml

    weights = {str(two[0]): 2.0, str(two[1]): 1.0}
    for shards in (weights, [str(one) for one in two], str(two[0])):
        raw = make_settings(two[0], two[0] / "run", data__shards=shards)
        config = parse(ExperimentConfig, raw, "the test")
        again = yaml.safe_load(dump(config))
        assert again["data"]["shards"] == shards
        assert parse(ExperimentConfig, again, "the test") == config
