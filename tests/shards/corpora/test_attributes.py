import json
import math

import pytest

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse
from shards.corpora.attributes import AttributeSource, attributes_of
from shards.corpora.iemocap.reader import IemocapConfig, read
from shards.sample.corpus import write_corpus
from shards.store.index import load_manifest, open_dataset
from shards.store.verify import check_dataset

SOURCES = {
    "arousal": AttributeSource(column="a", votes="all_a", scale=(1, 7)),
    "valence": AttributeSource(votes="all_v", separator=",", scale=(1, 7)),
}


def test_means_and_votes_are_read_and_what_is_missing_is_left_out():
    arousal, valence = attributes_of(SOURCES, {"a": "2,5", "all_a": "2; 3;", "all_v": "4,nan,6"})
    assert (arousal.mean, arousal.votes, arousal.low, arousal.high) == (2.5, (2.0, 3.0), 1, 7)
    assert (valence.mean, valence.votes) == (5.0, (4.0, 6.0))  # the mean of the votes
    [only] = attributes_of(SOURCES, {"a": "NaN", "all_a": None, "all_v": ["3", "4"]})
    assert only.name == "valence"
    assert attributes_of(SOURCES, {"a": " ", "all_a": "", "all_v": ""}) is None
    assert attributes_of({}, {}) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [({"a": "high"}, "column 'a' holds 'high', which is no number"),
     ({"a": "70"}, "arousal 70 is far outside its scale from 1 to 7"),
     ({"all_v": "4,-3"}, "valence -3 is far outside its scale")],
)  # fmt: skip
def test_what_is_no_value_is_named(values, said):
    with pytest.raises(ValueError, match=said):
        attributes_of(SOURCES, {"a": "1", "all_a": "", "all_v": ""} | values)


def test_a_source_says_where_and_on_which_scale():
    with pytest.raises(ValueError, match="give a column"):
        AttributeSource(scale=(1, 5))
    with pytest.raises(ValueError, match=r"\[least, greatest\]"):
        AttributeSource(column="a", scale=(5, 1))


def test_the_table_reader_keeps_them_and_other_corpora_are_as_they_were(small, tmp_path):
    root, out = tmp_path / "corpus", tmp_path / "out"
    small.write_corpus(root)
    plain = small.settings(root, out, text=None)
    before = build(small.config(root, tmp_path / "plain", text=None), workers=1)
    rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"act": str(1 + number % 5), "raters": f"{1 + number % 5};{1 + (number + 1) % 5}"}
    rows[3]["act"] = rows[3]["raters"] = ""
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    same = build(small.config(root, tmp_path / "plain", text=None), workers=1)
    assert (same.build, same.dataset_hash) == (before.build, before.dataset_hash)

    spec = plain["corpus"]["spec"] | {
        "attributes": {"arousal": {"column": "act", "votes": "raters", "scale": [1, 5]}}
    }
    corpus = plain["corpus"] | {"spec": spec}
    with_them = parse(ShardConfig, plain | {"corpus": corpus}, "the test")
    manifest = build(with_them, workers=1)
    assert manifest.dataset_hash != before.dataset_hash
    check_dataset(out, deep=True, workers=1)
    table = open_dataset(out).table
    of_turn = dict(
        zip(table["utterance"].to_pylist(), table["attributes"].to_pylist(), strict=True)
    )
    assert of_turn["turn0003"] is None
    assert of_turn["turn0004"] == [
        {"name": "arousal", "mean": 5.0, "votes": [5.0, 1.0], "low": 1.0, "high": 5.0}
    ]
    assert set(open_dataset(tmp_path / "plain").column("attributes")) == {None}

    # An update adds them to a dataset, takes them away, and corrects them, without the sound.
    update = {"output": plain["output"] | {"update": True, "folder": str(tmp_path / "plain")}}
    added = build(parse(ShardConfig, plain | {"corpus": corpus} | update, "the test"), workers=1)
    assert added.history[0].facts == {"attributes": 23}
    assert added.dataset_hash == manifest.dataset_hash
    taken = build(small.config(root, out, text=None, **update), workers=1)
    assert taken.dataset_hash == before.dataset_hash
    check_dataset(tmp_path / "plain", deep=True, workers=1)
    assert load_manifest(tmp_path / "plain").history[1].facts == {"attributes": 23}


def test_iemocap_gives_the_means_of_the_file_and_the_outside_raters(tmp_path):
    write_corpus(tmp_path / "sample", seed=3, dialogues=1, workers=1)
    root = tmp_path / "sample"
    plain = read(IemocapConfig(root=root)).utterances
    assert all(one.attributes is None for one in plain)
    found = read(IemocapConfig(root=root, attributes=True)).utterances
    for one in found:
        assert [item.name for item in one.attributes] == ["valence", "arousal", "dominance"]
        for item in one.attributes:
            assert len(item.votes) == 2  # the speaker's own rating is no vote
            assert math.isclose(item.mean, sum(item.votes) / 2, abs_tol=1e-4)
            assert (item.low, item.high) == (1.0, 5.0)
    path = next(root.glob("Session*/dialog/EmoEvaluation/*.txt"))
    text = path.read_text()
    first = text[text.index("\t[") + 2 : text.index("]", text.index("\t["))]
    path.write_text(text.replace(first, "5.5000, 0.5000, 3.0000", 1))  # as the release has some
    [odd] = [one for one in read(IemocapConfig(root=root, attributes=True)).utterances
             if one.attributes[0].mean == 5.5]  # fmt: skip
    assert odd.attributes[1].mean == 0.5
