"""The share of words that the tokenizer does not know is stated, and limited on request."""

import json

import pytest
import yaml

from shards.__main__ import main
from shards.build import claim
from shards.build.job import build
from shards.build.merge import merge
from shards.build.publish import TooManyUnknown
from shards.configfile import digest
from shards.extract.text import WordPieceConfig, learn_wordpiece
from shards.store import sidecar
from shards.store.describe import describe_dataset

TEXTS = 8


@pytest.fixture
def place(tmp_path):
    """Turns of four words; in the last two, three words have letters that no vocabulary knows."""
    learn_wordpiece(["no yes the piano"] * 2, tmp_path / "tokenizer", WordPieceConfig())
    rows = [{"id": f"t{i}", "text": "no yes the piano", "emotion": "joy"} for i in range(TEXTS)]
    for row in rows[-2:]:
        row["text"] = "no щука жук q7z"
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def _config(place, small, **text):
    from shards.config import ShardConfig
    from shards.configfile import parse

    return parse(ShardConfig, _settings(place, **text), "the test")


def _settings(place, **text):
    spec = {
        "tables": "t.jsonl",
        "fields": {"id": "id", "text": "text", "label": "emotion"},
        "labels": {"joy": "hap"},
    }
    return {
        "corpus": {"reader": "table", "root": str(place), "spec": spec},
        "labels": "four",
        "features": None,
        "text": {"tokenizer": str(place / "tokenizer"), "max_tokens": 16} | text,
        "output": {"folder": str(place / "out"), "utterances_per_shard": 3},
    }


def test_the_share_is_that_of_all_tokens_without_special_ones(place, small):
    manifest = build(_config(place, small), workers=1)
    tokens = manifest.summary.unknown
    # 6 turns of 4 known words, 2 of one known and 3 unknown: each word here is one token.
    assert tokens == pytest.approx(6 / 32)
    assert "unknown     19 % of the tokens are words that the tokenizer" in describe_dataset(
        manifest
    )


def test_no_line_where_every_word_is_known(built, small):
    from shards.store.index import load_manifest

    manifest = load_manifest(built)
    assert manifest.summary.unknown == 0
    assert "unknown  " not in describe_dataset(manifest)


def test_a_limit_ends_the_build_and_is_no_setting_of_the_dataset(place, small, capsys):
    path = place / "c.yaml"
    path.write_text(yaml.safe_dump(_settings(place, max_unknown=0.1)))
    assert main(["build", str(path), "workers=1"]) == 2
    said = capsys.readouterr().err
    assert "18.8 % of the tokens are words that the tokenizer does not know" in said
    assert "more than text.max_unknown=0.1 allows" in said
    assert not (place / "out" / "manifest.json").exists()
    assert main(["merge", str(path)]) == 2
    assert main(["build", str(path), "workers=1", "text.max_unknown=0.2"]) == 0
    plain = _config(place, small)
    assert claim.load(place / "out").digest == build(plain, workers=1).build
    assert _config(place, small, max_unknown=0.1).settings() == plain.settings()


def test_shards_that_do_not_tell_pass_without_a_limit_only(place, small):
    build(_config(place, small), workers=1)
    path = sidecar.sidecar_path(place / "out", 1)
    content = json.loads(path.read_bytes())
    del content["digest"], content["unknown"]
    path.write_text(json.dumps(content | {"digest": digest(content)}))
    found = claim.load(place / "out")
    assert merge(place / "out", found, 0.0).summary.unknown is None
    with pytest.raises(TooManyUnknown, match="made by an older program"):
        merge(place / "out", found, 0.0, max_unknown=1.0)
