"""The specifications in configs/corpora, each on a few lines of its corpus."""

import json
from pathlib import Path

import pytest
from table_specs import SHIPPED, by_id, read, touch

from shards.configfile import load
from shards.corpora.base import CorpusError
from shards.corpora.table.layout import SpecLoader
from shards.corpora.table.spec import TableSpec

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
    folders = "train/train_splits", "dev/dev_splits_complete", "test/output_repeated_splits_test"
    touch(tmp_path, *(f"{folder}/dia0_utt0.mp4" for folder in folders))
    touch(
        tmp_path, "train/train_splits/dia0_utt1.mp4", f"{folders[2]}/final_videos_testdia0_utt0.mp4"
    )
    corpus = read(tmp_path, "meld.yaml")
    found = by_id(corpus)
    assert len(found) == 4
    joey, rachel = found["train_dia0_utt1"], found["train_dia0_utt0"]
    assert (joey.turn, rachel.turn) == (1, 0)  # by Utterance_ID, not by place
    assert joey.text == "Well, that is\nnew."
    assert (joey.speaker, joey.label, joey.votes) == ("Joey", "hap", (("hap",),))
    assert joey.audio == tmp_path / "train/train_splits/dia0_utt1.mp4"
    assert (joey.start, joey.end) == pytest.approx((981.44, 983.442))
    assert joey.source == f"{tmp_path}/train_sent_emo.csv:2"
    assert rachel.source.endswith("train_sent_emo.csv:4")  # the cell before spans two lines
    assert found["dev_dia0_utt0"].split == "val"
    assert found["test_dia0_utt0"].start == 3600.5
    assert {item.dialogue for item in found.values()} == {"train_dia0", "dev_dia0", "test_dia0"}
    assert "by split" in corpus.notes[1]
    [differs] = [note for note in corpus.notes if "the counts differ" in note]
    assert "4 rows, not 13,708" in differs

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
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in SHIPPED.glob("*.yaml"):
        assert f'"{path.name}"' in sources, path


def test_numbers_of_known_releases_add_up():
    for path in SHIPPED.glob("*.yaml"):
        for one in load(TableSpec, path, loader=SpecLoader).expect:
            for counts in filter(None, (one.classes, one.splits)):
                told = sum(counts.values())
                # 399 segments of CMU-MOSEI are in no part.
                assert told == one.rows or (path.stem == "cmu_mosei" and told + 399 == one.rows)
