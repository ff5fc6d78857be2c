"""Tables: formats, fields, votes, order, and every problem told with its place."""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from table_specs import by_id, config, read, simple, touch

from shards.configfile import Config, ConfigError, dump, parse
from shards.corpora.base import CorpusError
from shards.corpora.read import CorpusConfig
from shards.corpora.table.reader import TableConfig
from shards.corpora.table.spec import TableSpec

# --- formats ---


RECORDS = [
    {"id": "a", "path": "a.wav", "text": "One, two.", "emotion": "joy"},
    {"id": "b", "path": "b.wav", "text": 'Say "two".', "emotion": "unclear"},
]


def write_records(path, records):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n\n" for record in records))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        tab = "\t" if path.suffix == ".tsv" else ","
        lines = [tab.join(records[0])]
        for record in records:
            cells = (f'"{cell}"' for cell in (v.replace('"', '""') for v in record.values()))
            lines.append(tab.join(cells))
        path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n").encode())


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_formats_agree(tmp_path, suffix):
    write_records(tmp_path / f"table.{suffix}", RECORDS)
    touch(tmp_path, "a.wav", "b.wav")
    spec = simple(tables=f"table.{suffix}", quoting=True)
    first, second = read(tmp_path, spec).utterances
    assert (first.id, first.text, first.label) == ("a", "One, two.", "hap")
    assert (second.text, second.label, second.votes) == ('Say "two".', "xxx", ())
    assert str(tmp_path / f"table.{suffix}") in second.source


def test_several_tables_and_own_columns(tmp_path):
    write_records(tmp_path / "part-0.csv", RECORDS[:1])
    write_records(tmp_path / "part-1.csv", RECORDS[1:])
    fields = {"id": "{stem}-{row}", "audio": None}
    corpus = read(tmp_path, simple(tables="part-*.csv", fields=fields))
    assert list(by_id(corpus)) == ["part-0-1", "part-1-1"]


def test_votes(tmp_path):
    spec = simple(fields={"votes": "votes", "audio": None}, tables="table.jsonl")
    votes = ["joy; rage,joy ;unclear", ["joy", "rage,joy"], [["joy", "rage"], ["rage"]], None]
    records = [RECORDS[0] | {"id": str(n), "votes": vote} for n, vote in enumerate(votes)]
    write_records(tmp_path / "table.jsonl", records)
    assert [item.votes for item in read(tmp_path, spec).utterances] == [
        (("hap",), ("ang", "hap")),  # an annotator without an answer is no vote
        (("hap",), ("ang", "hap")),
        (("hap", "ang"), ("ang",)),
        (),
    ]


def test_audio_only_and_defaults(tmp_path):
    write_records(tmp_path / "table.csv", RECORDS[:1])
    touch(tmp_path, "a.wav")
    corpus = read(tmp_path, simple(fields={"text": None}))
    (utterance,) = corpus.utterances
    assert utterance.text is None
    assert (utterance.speaker, utterance.session, utterance.dialogue) == ("unknown", "1", "a")
    assert (utterance.split, utterance.start, utterance.end) == (None, None, None)
    assert any("no speakers are named" in note for note in corpus.notes)


def test_turns_are_sorted_by_number_then_start_then_place(tmp_path):
    spec = simple(fields={"audio": None, "dialogue": "scene", "start": "from"})
    rows = ["id,text,emotion,scene,from", "c,t,joy,s,10", "a,t,joy,s,9.5", "b,t,joy,z,1"]
    (tmp_path / "table.csv").write_text("\n".join([*rows, ""]))
    assert {n: u.turn for n, u in by_id(read(tmp_path, spec)).items()} == {"a": 0, "b": 0, "c": 1}


# --- bad input ---


def test_missing_audio_and_text_are_problems(tmp_path):
    write_records(
        tmp_path / "table.csv",
        [
            RECORDS[0],
            RECORDS[1] | {"text": ""},
            RECORDS[1] | {"id": "c", "path": ""},
            RECORDS[1] | {"id": "d", "path": "d.wav"},
        ],
    )
    touch(tmp_path, "a.wav", "b.wav")
    corpus = read(tmp_path, simple(), max_problems=3)
    assert list(by_id(corpus)) == ["a"]
    assert [(problem.kind, problem.where) for problem in corpus.problems] == [
        ("missing transcript", "b"),
        ("missing audio", "c"),
        ("missing audio", "d"),
    ]
    with pytest.raises(
        CorpusError, match=r"missing audio: 2, missing transcript: 1.*max_problems=0"
    ):
        read(tmp_path, simple())


def test_every_bad_row_is_listed_with_its_line(tmp_path):
    (tmp_path / "table.csv").write_text(
        "id,path,text,emotion,start\n"
        "a,a.wav,t,joy,1\n"
        "b,a.wav,t,glee,1\n"
        "a,a.wav,t,joy,1\n"
        "c,../../etc/passwd,t,joy,1\n"
        "d,/etc/passwd,t,joy,1\n"
        "e,a.wav,t,joy\n"
        "f,a.wav,t,joy,soon\n"
        "g,a.wav,t,,1\n"
    )
    touch(tmp_path, "a.wav")
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, simple(fields={"start": "start"}))
    message, table = str(caught.value), tmp_path / "table.csv"
    assert message.startswith("7 errors")
    assert f"label 'glee': unknown, once, first at {table}:3" in message
    assert f"{table}:4: the id 'a' stands at {table}:2 as well" in message
    assert f"{table}:5: the audio path '../../etc/passwd' leads out of the corpus' root" in message
    assert f"{table}:6: the audio path '/etc/passwd' leads out" in message
    assert f"{table}:7: 4 cells, but 5 columns" in message
    assert f"{table}:8: start: 'soon' is neither a number" in message
    assert f"the empty label: unknown, once, first at {table}:9" in message


def test_an_absolute_path_inside_the_root_is_fine(tmp_path):
    write_records(tmp_path / "table.csv", [RECORDS[0] | {"path": str(tmp_path / "x/../a.wav")}])
    touch(tmp_path, "a.wav")
    assert read(tmp_path, simple()).utterances[0].audio == tmp_path / "a.wav"


def test_broken_json_lines(tmp_path):
    (tmp_path / "table.jsonl").write_text('{"id": "a", \n[1]\n' + json.dumps(RECORDS[0]) + "\n")
    touch(tmp_path, "a.wav")
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, simple(tables="table.jsonl"))
    assert "table.jsonl:1: not JSON" in str(caught.value)
    assert "table.jsonl:2: expected an object {…}, got list" in str(caught.value)


def test_missing_root_table_column_and_encoding(tmp_path):
    with pytest.raises(CorpusError, match=r"no corpus folder .*corpus.root.*table.csv"):
        read(tmp_path / "nowhere", simple())
    with pytest.raises(CorpusError, match=r"no table 'table.csv' in .*corpus.root"):
        read(tmp_path, simple())
    with pytest.raises(CorpusError, match=r"no audio file 'wav/\*.wav'"):
        read(tmp_path, "emo_db.yaml")
    (tmp_path / "table.csv").write_text("id,wav,text,emotion\na,a.wav,t,joy\n")
    with pytest.raises(CorpusError, match=r"no column 'path'; it has: emotion, .*wav.*`fields`"):
        read(tmp_path, simple())
    (tmp_path / "table.csv").write_bytes("id,path,text,emotion\na,a.wav,é,joy\n".encode("cp1252"))
    with pytest.raises(CorpusError, match="is not utf-8; set `encoding`"):
        read(tmp_path, simple())
    touch(tmp_path, "a.wav")
    assert read(tmp_path, simple(encoding="cp1252")).utterances[0].text == "é"
    (tmp_path / "table.csv").write_text("id,path,text,emotion\n")
    with pytest.raises(CorpusError, match="has no rows"):
        read(tmp_path, simple())
    (tmp_path / "table.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        read(tmp_path, simple(tables="table.parquet"))


def test_a_dialogue_in_two_splits_is_refused(tmp_path):
    write_records(tmp_path / "a.csv", RECORDS[:1])
    write_records(tmp_path / "b.csv", RECORDS[1:])
    spec = simple(tables={"train": "a.csv", "test": "b.csv"})
    spec["fields"] |= {"audio": None, "dialogue": {"constant": "0"}}
    with pytest.raises(CorpusError, match=r"dialogue '0'.*train \(.*a.csv:2\), test .*\{split\}"):
        read(tmp_path, spec)
    spec["fields"]["dialogue"] = "{split}0"
    assert len(read(tmp_path, spec).utterances) == 2


def test_a_column_of_structures_is_refused(tmp_path):
    records = [RECORDS[0] | {"path": {"folder": "x", "name": "a.wav"}}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "table.parquet")
    with pytest.raises(CorpusError, match=r"row 1: audio: column 'path' holds dict, not text"):
        read(tmp_path, simple(tables="table.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": "../table.csv"}, "inside the corpus' root"),
        ({"tables": "/etc/*.csv"}, "inside the corpus' root"),
        ({"tables": {"trian": "a.csv"}}, "unknown split 'trian'"),
        ({"audio_files": "*.wav"}, "either tables or audio_files"),
        ({"labels": {"joy": " "}}, "no emotion is given for 'joy'"),
        ({"patterns": [{"column": "a", "regex": "("}]}, "not a regular expression"),
        ({"patterns": [{"column": "a", "regex": "a(b)"}]}, "no named group"),
        ({"field": {}}, "did you mean 'fields'"),
        ({"fields": {"speker": "x"}}, "did you mean 'speaker'"),
        ({"fields": {"audio": None, "text": None}}, "for audio, for text, or for both"),
        ({"fields": {"turn": {"column": "a", "constant": "b"}}}, "exactly one of"),
    ],
)
def test_the_specification_is_strict(change, message):
    with pytest.raises(ConfigError) as caught:
        parse(TableSpec, simple(**change), "x.yaml")
    assert message in str(caught.value)


def test_a_spec_in_a_file_becomes_part_of_the_configuration(tmp_path):
    settings = config(tmp_path, "ravdess.yaml")
    assert settings.spec.labels["02"] == "cal"
    again = parse(TableConfig, yaml.safe_load(dump(settings)), "dumped")
    assert again == settings
    with pytest.raises(ConfigError, match=r"cannot read the configuration nowhere.yaml"):
        parse(TableConfig, {"root": "x", "spec": "nowhere.yaml"}, "test")


def test_the_reader_is_chosen_by_name():
    class Holder(Config):
        corpus: CorpusConfig

    held = parse(Holder, {"corpus": {"reader": "table", "root": "r", "spec": simple()}}, "x")
    assert isinstance(held.corpus, TableConfig)
    with pytest.raises(ConfigError, match=r"iemocap.*table.*did you mean 'table'"):
        parse(Holder, {"corpus": {"reader": "tabel", "root": "r"}}, "x")


def test_ten_thousand_rows_are_quick(tmp_path):
    lines = ["id,path,text,emotion,scene"]
    (tmp_path / "wav").mkdir()
    for number in range(10_000):
        lines.append(f"u{number:05d},wav/{number % 100}.wav,Some words.,joy,d{number // 60}")
    for number in range(100):
        touch(tmp_path, f"wav/{number}.wav")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    started = time.process_time()
    corpus = read(tmp_path, simple(fields={"dialogue": "scene"}))
    assert time.process_time() - started < 3  # about a third of a second on an idle core
    assert len(corpus.utterances) == 10_000
