"""Tables as other programs leave them: quotes, line breaks, encodings, words."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from table_specs import config, read, text_spec, texts

from shards.configfile import ConfigError
from shards.corpora.base import CorpusError

# --- quotes ---

SPEECH = ["id\ttext\temotion", 'a\t"Oh no\tjoy', "b\tfine\trage", 'c\the said "No" said\tjoy']


def test_tsv_is_not_quoted_unless_the_spec_says_so(tmp_path):
    (tmp_path / "t.tsv").write_text("\n".join(SPEECH) + "\n")
    assert texts(read(tmp_path, text_spec("t.tsv"))) == {
        "a": '"Oh no', "b": "fine", "c": 'he said "No" said',
    }  # fmt: skip
    with pytest.raises(CorpusError, match=r"t\.tsv:[24]: .*quoting: false"):
        read(tmp_path, text_spec("t.tsv", quoting=True))


def test_quotes_in_an_unquoted_table_are_told(tmp_path):
    (tmp_path / "t.tsv").write_text('id\ttext\temotion\na\t"Well, yes."\tjoy\n')
    corpus = read(tmp_path, text_spec("t.tsv"))
    assert texts(corpus) == {"a": '"Well, yes."'}
    assert any("1 cells" in note and "`quoting: true`" in note for note in corpus.notes)
    corpus = read(tmp_path, text_spec("t.tsv", quoting=True))
    assert texts(corpus) == {"a": "Well, yes."}


@pytest.mark.parametrize(
    "rows",
    [
        ['a,"Oh no,joy', 'b,she said no",joy', "c,fine,rage"],  # closes by chance
        ['a,"Oh no,joy', 'b,"No" said,rage'],
        ['a,"Oh no,joy', "b,fine,rage"],  # is never closed
    ],
)
def test_a_quote_that_swallows_rows_is_refused_by_line(tmp_path, rows):
    (tmp_path / "t.csv").write_text("\n".join(["id,text,emotion", *rows]) + "\n")
    with pytest.raises(CorpusError, match=r"t\.csv:[23]: .*quoting: false"):
        read(tmp_path, text_spec("t.csv"))
    assert len(read(tmp_path, text_spec("t.csv", quoting=False)).utterances) == len(rows)


def test_line_breaks_in_cells(tmp_path):
    (tmp_path / "t.csv").write_text('id,text,emotion\na,"One\ntwo",joy\n')
    assert texts(read(tmp_path, text_spec("t.csv"))) == {"a": "One\ntwo"}
    with pytest.raises(CorpusError, match=r"t\.csv:2: a quoted cell goes over several lines"):
        read(tmp_path, text_spec("t.csv", line_breaks=False))
    (tmp_path / "t.tsv").write_text('id\ttext\temotion\na\t"One\ntwo"\tjoy\n')
    with pytest.raises(CorpusError, match=r"t\.tsv:2: a quoted cell goes over several lines"):
        read(tmp_path, text_spec("t.tsv", quoting=True))
    corpus = read(tmp_path, text_spec("t.tsv", quoting=True, line_breaks=True))
    assert texts(corpus) == {"a": "One\ntwo"}


def test_another_delimiter(tmp_path):
    (tmp_path / "t.csv").write_text("id;text;emotion\na;One, two.;joy\n")
    assert texts(read(tmp_path, text_spec("t.csv", delimiter=";"))) == {"a": "One, two."}


# --- encodings, words, numbers ---


@pytest.mark.parametrize("encoding", ["utf-8", "UTF_8", "u8", "utf-8-sig", "utf-16-le"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    written = "utf-16-le" if encoding == "utf-16-le" else "utf-8"
    (tmp_path / "t.csv").write_bytes("\ufeffid,text,emotion\na,é,joy\n".encode(written))
    assert texts(read(tmp_path, text_spec("t.csv", encoding=encoding))) == {"a": "é"}
    line = json.dumps({"id": "a", "text": "é", "emotion": "joy"}, ensure_ascii=False)
    (tmp_path / "t.jsonl").write_bytes(f"\ufeff{line}\n".encode(written))
    assert texts(read(tmp_path, text_spec("t.jsonl", encoding=encoding))) == {"a": "é"}


@pytest.mark.parametrize("encoding", ["utf8x", "cp125", "hex", "rot13", ""])
def test_an_unknown_encoding_is_an_error_of_the_spec(tmp_path, encoding):
    with pytest.raises(ConfigError, match="encoding"):
        config(tmp_path, text_spec("t.csv", encoding=encoding))


def test_text_that_is_not_of_the_encoding(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,emotion\na,x,joy\n")
    with pytest.raises(CorpusError, match="not utf-16; set `encoding`"):
        read(tmp_path, text_spec("t.csv", encoding="utf-16"))


def test_nan_is_no_word(tmp_path):
    line = '{"id": "a", "text": NaN, "emotion": "joy"}\n{"id": "b", "text": "x", "emotion": "joy"}'
    (tmp_path / "t.jsonl").write_text(line + "\n")
    corpus = read(tmp_path, text_spec("t.jsonl"), max_problems=1)
    assert texts(corpus) == {"b": "x"}
    assert [problem.kind for problem in corpus.problems] == ["missing transcript"]
    table = pa.table({"id": ["a", "b"], "text": [float("nan"), 1.5], "emotion": ["joy", "joy"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert texts(read(tmp_path, text_spec("t.parquet"), max_problems=1)) == {"b": "1.5"}
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": Infinity, "emotion": "joy"}\n')
    with pytest.raises(CorpusError, match="Infinity is no value of JSON"):
        read(tmp_path, text_spec("t.jsonl"))


def test_half_characters_are_problems(tmp_path):
    lines = ['{"id": "\\ud83d", "text": "x", "emotion": "joy"}',
             '{"id": "b", "text": "\\udcff", "emotion": "joy"}',
             '{"id": "c", "text": "x", "emotion": "joy"}']  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    corpus = read(tmp_path, text_spec("t.jsonl"), max_problems=2)
    assert texts(corpus) == {"c": "x"}
    assert [(one.kind, one.where) for one in corpus.problems] == [
        ("not Unicode", "\\ud83d"), ("not Unicode", "b"),
    ]  # fmt: skip


def test_words_of_a_spec_are_read_as_they_are_written(tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "tables: t.csv\nformat: null\nfields: {id: id, text: text, label: emotion,"
        " session: {constant: 03}, speaker: {column: who, map: {no: on, 1e3: 0x1}}}\n"
        "labels: {0: hap, 01: ang, no: neu, null: xxx, 1_000: sad}\n"
    )
    words = ["0", "01", "no", "null", "1_000"]
    rows = [f"{word},x,{word},{'no' if number else '1e3'}" for number, word in enumerate(words)]
    (tmp_path / "t.csv").write_text("\n".join(["id,text,emotion,who", *rows]) + "\n")
    corpus = read(tmp_path, str(tmp_path / "spec.yaml"))
    labels = {one.id: one.label for one in corpus.utterances}
    assert labels == {"0": "hap", "01": "ang", "no": "neu", "null": "xxx", "1_000": "sad"}
    assert {one.session for one in corpus.utterances} == {"03"}
    assert {one.id: one.speaker for one in corpus.utterances}["0"] == "0x1"
    assert {one.id: one.speaker for one in corpus.utterances}["no"] == "on"
    (tmp_path / "spec.yaml").write_text("labels: {joy: hap, joy: ang}\n")
    with pytest.raises(ConfigError, match="'joy' stands twice"):
        config(tmp_path, str(tmp_path / "spec.yaml"))


def test_numbers_of_a_spec_inside_a_configuration_are_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,emotion\na,x,0\n")
    spec = text_spec("t.csv", labels={"0": "hap"})
    spec["fields"] = spec["fields"] | {"session": {"constant": 3}}
    assert read(tmp_path, yaml.safe_load(yaml.safe_dump(spec))).utterances[0].session == "3"


def test_a_key_twice_in_a_line_of_json_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"id": "1", "text": "a", "text": "b", "emotion": "joy"}\n')
    with pytest.raises(CorpusError, match=r"t\.jsonl:1: .*the key 'text' stands there twice"):
        read(tmp_path, text_spec("t.jsonl"))
