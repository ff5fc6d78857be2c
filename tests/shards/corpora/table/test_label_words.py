"""Any emotion may be named; a word that is not mapped is one line, however many rows have it."""

import pytest
import yaml
from table_specs import config, read, text_spec

from shards.corpora.base import CorpusError


def write(path, words):
    rows = [f"u{number:03d},x,{word}" for number, word in enumerate(words)]
    path.write_text("\n".join(["id,text,emotion", *rows]) + "\n")


def labels(corpus):
    return [one.label for one in corpus.utterances]


def test_open_words_become_labels_and_codes_stay_codes(tmp_path):
    write(tmp_path / "t.csv", ["C", "ps", "a", "F"])
    meanings = {"C": "Contempt", "ps": "pleasant surprise", "a": "angry", "F": "fea"}
    corpus = read(tmp_path, text_spec("t.csv", labels=meanings))
    assert labels(corpus) == ["contempt", "pleasant surprise", "ang", "fea"]
    assert corpus.utterances[0].votes == (("contempt",),)
    [table] = [note for note in corpus.notes if note.startswith("by session")]
    assert [line.split("  ")[0] for line in table.splitlines()[1:]] == [
        "ang", "fea", "contempt", "pleasant surprise", "all",
    ]  # fmt: skip


def test_words_that_stand_for_themselves(tmp_path):
    write(tmp_path / "t.csv", ["awe", "Happy", "AWE "])
    corpus = read(tmp_path, text_spec("t.csv", labels=["awe", "happy"]))
    assert labels(corpus) == ["awe", "hap", "awe"]


def test_case_and_blanks_do_not_matter_unless_the_spec_says_so(tmp_path):
    write(tmp_path / "t.csv", [" JOY", "rage ", "Rage"])
    spec = text_spec("t.csv")
    assert labels(read(tmp_path, spec)) == ["hap", "ang", "ang"]
    with pytest.raises(CorpusError, match=r"3 errors(?s:.)*label ' JOY': unknown, once"):
        read(tmp_path, spec | {"exact_labels": True})
    # Where only case tells two labels apart, it counts.
    write(tmp_path / "t.csv", ["f", "F", "Sad"])
    spec["labels"] = {"f": "fear", "F": "happiness", "sad": "sad"}
    assert labels(read(tmp_path, spec)) == ["fea", "hap", "sad"]


def test_unmapped_words_are_one_line_each_with_count_and_suggestion(tmp_path):
    write(tmp_path / "t.csv", ["glee"] * 40 + ["rge"] * 20 + ["joy"] * 5)
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, text_spec("t.csv"))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("2 errors")
    assert len(lines) == 2
    assert f"label 'glee': unknown, 40 times, first at {tmp_path}/t.csv:2" in lines[0]
    assert "known: 'joy', 'rage'; correct the table, or give each word a meaning" in lines[0]
    assert "label 'rge': unknown, 20 times" in lines[1]
    assert lines[1].endswith("did you mean 'rage'?")


def test_a_class_of_the_corpus_own_is_told_with_what_it_may_mean(tmp_path):
    write(tmp_path / "t.csv", ["joy", "scorn", "scorn"])
    corpus = read(tmp_path, text_spec("t.csv", labels={"joy": "hapiness", "scorn": "contempt"}))
    [note] = [note for note in corpus.notes if "of this corpus' own" in note]
    assert "contempt 2, hapiness 1 (did you mean 'happiness'?)" in note


def test_an_empty_label_may_have_a_meaning(tmp_path):
    write(tmp_path / "t.csv", ["joy", ""])
    assert labels(read(tmp_path, text_spec("t.csv", labels={"joy": "hap", "": "xxx"}))) == [
        "hap", "xxx",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["03", "1e3", "no", "2020-01-01", "1_0", "0x1f", "null", "~"])
def test_unquoted_words_of_yaml_are_what_was_written(tmp_path, word):
    write(tmp_path / "t.csv", [word])
    text = (
        f"tables: t.csv\nfields: {{id: id, text: text, label: emotion,"
        f" speaker: {{constant: {word}}}}}\nlabels: {{{word}: {word}}}\n"
    )
    if word in ("null", "~"):  # no value: said with its key, not taken for a word
        text = text.replace(f" speaker: {{constant: {word}}}", "").replace(f": {word}}}", ": w}")
    (tmp_path / "spec.yaml").write_text(text)
    [one] = read(tmp_path, str(tmp_path / "spec.yaml")).utterances
    if word in ("null", "~"):
        assert one.label == "w"
    else:
        assert (one.label, one.speaker) == (word, word)
        kept = yaml.safe_load(
            yaml.safe_dump(config(tmp_path, str(tmp_path / "spec.yaml")).spec.model_dump())
        )
        assert kept["labels"] == {word: word}
