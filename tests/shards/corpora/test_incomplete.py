"""`output.incomplete: keep` reaches the readers: one of audio and text is enough for a turn."""

import json
from pathlib import Path

import pytest

from shards.configfile import parse
from shards.corpora.base import MISSING_AUDIO, MISSING_TRANSCRIPT, CorpusError, Problem
from shards.corpora.incomplete import settle
from shards.corpora.read import read_corpus
from shards.corpora.table.reader import TableConfig
from shards.corpora.utterance import Utterance

SPEC = {
    "tables": "t.jsonl",
    "fields": {"id": "id", "audio": "path", "text": "text", "label": "label"},
    "labels": {"joy": "hap"},
}


@pytest.fixture
def config(tmp_path):
    """Of turns a (whole), b (an empty text), c (no path), d (its file is gone), e (has nothing)."""
    rows = [("a", "a.wav", "one"), ("b", "b.wav", ""), ("c", "", "three"), ("d", "d.wav", "four"),
            ("e", "e.wav", "")]  # fmt: skip
    lines = (dict(zip(("id", "path", "text"), row, strict=True)) for row in rows)
    text = "".join(json.dumps(line | {"label": "joy"}) + "\n" for line in lines)
    (tmp_path / "t.jsonl").write_text(text)
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF")

    def made(limit):
        raw = {"root": str(tmp_path), "spec": SPEC, "max_problems": limit}
        return parse(TableConfig, raw, "the test")

    return made


def test_a_turn_that_lacks_one_modality_stays_with_the_other(config):
    corpus = read_corpus(config(3), keep_incomplete=True)
    turns = {one.id: (one.audio and one.audio.name, one.text) for one in corpus.utterances}
    assert turns == {
        "a": ("a.wav", "one"), "b": ("b.wav", None), "c": (None, "three"), "d": (None, "four"),
    }  # fmt: skip
    assert [one.where for one in corpus.problems] == ["c", "d", "e"]
    assert "kept with its text" in corpus.notes[-1]


def test_without_it_each_is_left_out_and_counted(config):
    assert [one.id for one in read_corpus(config(4)).utterances] == ["a"]
    with pytest.raises(CorpusError, match=r"max_problems=4"):
        read_corpus(config(3))


def test_missing_recordings_count_even_if_their_turns_are_kept(config):
    """A wrong root would otherwise make a dataset of texts alone."""
    with pytest.raises(CorpusError, match=r"missing audio: 3\), more than max_problems=2"):
        read_corpus(config(2), keep_incomplete=True)


def test_other_problems_are_no_lack():
    one = Utterance("a", Path("a.wav"), "x", "hap", (), "s", "1", "a", 0)
    problems = [Problem(MISSING_TRANSCRIPT, "a", ""), Problem("bad times", "a", "")]
    assert settle([one], problems, keep=True) == ([], [problems[0]])
    assert settle([one], [Problem(MISSING_AUDIO, "b", "")], keep=True)[0] == [one]
