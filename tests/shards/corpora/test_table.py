import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shards.configfile import Config, ConfigError, dump, parse
from shards.corpora.base import CorpusError
from shards.corpora.read import CorpusConfig, read_corpus
from shards.corpora.table import TableConfig
from shards.corpora.table_spec import TableSpec

SHIPPED = Path(__file__).parents[3] / "configs/corpora"


def config(root, spec, **settings):
    if isinstance(spec, str):
        spec = str(SHIPPED / spec)
    return parse(TableConfig, {"root": str(root), "spec": spec, **settings}, "test")


def read(root, spec, **settings):
    return read_corpus(config(root, spec, **settings))


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances}


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"RIFF")


def simple(**changes):
    """A spec of `table.csv` with id, path, text and emotion; a change to None removes a field."""
    fields = {"id": "id", "audio": "path", "text": "text", "label": "emotion"}
    fields |= changes.pop("fields", {})
    fields = {name: source for name, source in fields.items() if source is not None}
    labels = {"joy": "hap", "rage": "ang", "unclear": "xxx"}
    return {"tables": "table.csv", "fields": fields, "labels": labels} | changes


# --- the shipped files, each on a few lines of its format ---

MELD_HEAD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\r\n"
)


def test_meld(tmp_path):
    rows = {
        "train": '1,"Well, that is\nnew.",Joey,joy,positive,0,1,8,21,"00:16:21,440",'
        '"00:16:23,442"\r\n'
        '2,Is it?,Rachel,surprise,positive,0,0,8,21,"00:16:16,059","00:16:21,731"\r\n',
        "dev": '1,Never.,Monica,anger,negative,0,0,4,7,"00:20:57,256","00:21:00,049"\r\n',
        "test": '1,So what?,Mark,neutral,neutral,0,0,3,19,"01:00:00,5","01:00:02"\r\n',
    }
    for split, lines in rows.items():
        (tmp_path / f"{split}_sent_emo.csv").write_bytes((MELD_HEAD + lines).encode())
    touch(tmp_path, *(f"wav/{split}/dia0_utt0.wav" for split in rows), "wav/train/dia0_utt1.wav")
    corpus = read(tmp_path, "meld.yaml")
    found = by_id(corpus)
    assert len(found) == 4
    joey, rachel = found["train_dia0_utt1"], found["train_dia0_utt0"]
    assert (joey.turn, rachel.turn) == (1, 0)  # by Utterance_ID, not by place
    assert joey.text == "Well, that is\nnew."
    assert (joey.speaker, joey.label, joey.votes) == ("Joey", "hap", (("hap",),))
    assert joey.audio == tmp_path / "wav/train/dia0_utt1.wav"
    assert (joey.start, joey.end) == pytest.approx((981.44, 983.442))
    assert joey.source == f"{tmp_path}/train_sent_emo.csv:2"
    assert rachel.source.endswith("train_sent_emo.csv:4")  # the cell before spans two lines
    assert found["dev_dia0_utt0"].split == "val"
    assert found["test_dia0_utt0"].start == 3600.5
    assert {item.dialogue for item in found.values()} == {"train_dia0", "dev_dia0", "test_dia0"}
    assert "by split" in corpus.notes[1]

    text_only = read(tmp_path, "meld.yaml", modalities=["text"]).utterances
    assert all(item.audio is None and item.text for item in text_only)


def test_ravdess_needs_no_metadata(tmp_path):
    touch(tmp_path, "Actor_12/03-01-06-01-02-01-12.wav", "Actor_01/03-01-02-02-01-02-01.wav")
    touch(tmp_path, "Actor_01/03-02-02-02-01-02-01.wav")  # sung
    touch(tmp_path, "Actor_01/._03-01-02-02-01-02-01.wav")
    found = by_id(read(tmp_path, "ravdess.yaml"))
    assert sorted(found) == ["03-01-02-02-01-02-01", "03-01-06-01-02-01-12"]
    fearful = found["03-01-06-01-02-01-12"]
    assert (fearful.label, fearful.speaker) == ("fea", "actor12")
    assert fearful.text == "Dogs are sitting by the door."
    assert fearful.audio == tmp_path / "Actor_12/03-01-06-01-02-01-12.wav"
    assert found["03-01-02-02-01-02-01"].label == "cal"
    assert (fearful.dialogue, fearful.turn, fearful.split) == (fearful.id, 0, None)


def test_crema_d(tmp_path):
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1040_ITH_SAD_X.wav")
    found = by_id(read(tmp_path, "crema_d.yaml"))
    assert found["1001_DFA_ANG_XX"].text == "Don't forget a jacket."
    sad = found["1040_ITH_SAD_X"]
    assert (sad.speaker, sad.label) == ("1040", "sad")
    touch(tmp_path, "AudioWAV/copy of 1001_DFA_ANG_XX.wav")
    with pytest.raises(CorpusError, match=r"'copy of 1001_DFA_ANG_XX' does not fit the pattern"):
        read(tmp_path, "crema_d.yaml")


def test_emo_db(tmp_path):
    touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Wb.wav", "wav/08a02La.wav")
    found = by_id(read(tmp_path, "emo_db.yaml"))
    assert {name: item.label for name, item in found.items()} == {
        "03a01Fa": "hap",
        "08a02La": "bor",
        "16b10Wb": "ang",
    }
    assert found["03a01Fa"].speaker == "03"
    assert found["03a01Fa"].text == "Der Lappen liegt auf dem Eisschrank."


def test_emobox(tmp_path):
    for split, turn, label in (
        ("train", "Ses01F_impro04_M000", "exc"),
        ("test", "Ses05M_script01_1b_F003", "neu"),
    ):
        wav = f"downloads/iemocap/Session{turn[4]}/sentences/wav/{turn[:-5]}/{turn}.wav"
        touch(tmp_path, wav)
        line = {"key": f"iemocap-{turn}", "dataset": "iemocap", "wav": wav, "emo": label}
        line |= {"type": "raw", "sample_rate": 16000, "num_frame": 70312.0, "length": 4.3945}
        path = tmp_path / f"data/iemocap/fold_1/iemocap_{split}_fold_1.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(line) + "\n")
    found = by_id(read(tmp_path, "emobox.yaml"))
    first, last = found["Ses01F_impro04_M000"], found["Ses05M_script01_1b_F003"]
    assert (first.label, first.speaker, first.session) == ("exc", "Ses01M", "1")
    assert (first.split, last.split) == ("train", "test")
    assert (last.dialogue, last.speaker) == ("Ses05M_script01_1b", "Ses05F")
    assert first.text is None


def test_audiofolder(tmp_path):
    for split in ("train", "validation", "test"):
        touch(tmp_path, f"{split}/clips/a.wav")
        (tmp_path / split / "metadata.csv").write_text(
            "file_name,transcription,label,speaker_id\nclips/a.wav,Hello.,happy,s1\n"
        )
    found = by_id(read(tmp_path, "audiofolder.yaml"))
    assert found["test/clips/a.wav"].audio == tmp_path / "test/clips/a.wav"
    assert found["validation/clips/a.wav"].split == "val"
    assert found["train/clips/a.wav"].text == "Hello."


def test_every_shipped_file_is_tested():
    tested = {"meld", "ravdess", "crema_d", "emo_db", "emobox", "audiofolder"}
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == tested


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
    assert f"{table}:3: unknown label 'glee'; known: joy, rage, unclear" in message
    assert f"{table}:4: the id 'a' stands at {table}:2 as well" in message
    assert f"{table}:5: the audio path '../../etc/passwd' leads out of the corpus' root" in message
    assert f"{table}:6: the audio path '/etc/passwd' leads out" in message
    assert f"{table}:7: 4 cells, but 5 columns" in message
    assert f"{table}:8: start: 'soon' is neither a number" in message
    assert f"{table}:9: label is empty (from emotion)" in message


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
        ({"labels": {"joy": "happy"}}, "unknown codes in joy: happy; known: ang"),
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
