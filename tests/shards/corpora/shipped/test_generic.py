"""Manifests of other toolkits: audformat, Kaldi, lhotse, WebDataset, the hub, folders, a table."""

import gzip
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from table_specs import SHIPPED, by_id, read, touch

from shards.corpora.base import CorpusError
from shards.corpora.embedded import read_recording
from shards.errors import UserError


def edited(name, **changes):
    """A shipped spec with changes, as the person would make them who uses it for a corpus."""
    spec = yaml.safe_load((SHIPPED / name).read_text())
    fields = spec["fields"] | changes.pop("fields", {})
    spec["fields"] = {field: source for field, source in fields.items() if source is not None}
    return spec | changes


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


# --- audformat ---

HEADER = {
    "name": "db",
    "splits": {"train": {"type": "train"}, "heldout": {"type": "test"}},
    "schemes": {
        "emotion": {"dtype": "str", "labels": ["anger", "awe"]},
        "speaker": {"dtype": "str",
                    "labels": {"s1": {"gender": "female"}, "s2": {"gender": "male"}}},
        "room": {"dtype": "str", "labels": "rooms"},
    },
    "tables": {
        "emotion.train": {
            "type": "segmented", "split_id": "train",
            "columns": {"emotion": {"scheme_id": "emotion"}, "speaker": {"scheme_id": "speaker"},
                        "room": {"scheme_id": "room"}},
        },
        "emotion.test": {
            "type": "filewise", "split_id": "heldout",
            "columns": {"emotion": {"scheme_id": "emotion"}, "speaker": {"scheme_id": "speaker"}},
        },
    },
}  # fmt: skip


def test_audformat(tmp_path):
    (tmp_path / "db.yaml").write_text(yaml.safe_dump(HEADER))
    touch(tmp_path, "audio/a.wav", "audio/b.wav")
    lines(tmp_path / "db.emotion.train.csv", "file,start,end,emotion,speaker,room",
          "audio/a.wav,0 days 00:00:00.0,0 days 00:00:01.250000000,anger,s1,r1",
          "audio/a.wav,0 days 00:00:02,NaT,awe,s1,r1", "audio/a.wav,1.5s,2.5s,,s2,r2")  # fmt: skip
    lines(tmp_path / "db.rooms.csv", "room,size", "r1,big", "r2,small")
    pq.write_table(
        pa.table({"file": ["audio/b.wav"], "emotion": ["awe"], "speaker": ["s2"]}),
        tmp_path / "db.emotion.test.parquet",
    )
    tables = {"train": "db.emotion.train.csv", "test": "db.emotion.test.parquet"}
    labels = {"*": "*", "": "xxx"}
    spec = edited("audformat.yaml", tables=tables, labels=labels,
                  fields={"session": "speaker.gender"})  # fmt: skip
    found = {(one.label, one.start, one.end, one.session, one.split)
             for one in read(tmp_path, spec).utterances}  # fmt: skip
    assert found == {
        ("ang", 0.0, 1.25, "female", "train"), ("awe", 2.0, None, "female", "train"),
        ("xxx", 1.5, 2.5, "male", "train"), ("awe", None, None, "male", "test"),
    }  # fmt: skip
    rooms = edited("audformat.yaml", tables=tables["train"], labels=labels,
                   fields={"dialogue": "room.size"})  # fmt: skip
    assert {one.dialogue for one in read(tmp_path, rooms).utterances} == {"big", "small"}
    (tmp_path / "db.other.csv").write_text("file\nx\n")
    with pytest.raises(CorpusError, match=r"db.yaml knows no table 'other'; it knows: emotion"):
        read(tmp_path, edited("audformat.yaml", tables="db.other.csv"))
    (tmp_path / "db.emotion.test.pkl").write_bytes(b"\x80")
    with pytest.raises(CorpusError, match="no pickles"):
        read(tmp_path, edited("audformat.yaml", tables="db.emotion.test.pkl"))


# --- Kaldi ---


def test_kaldi(tmp_path):
    data = tmp_path / "data/train"
    lines(data / "wav.scp", "rec1 audio/my file.wav", "rec2 audio/b.wav")
    lines(data / "segments", "s1-u1 rec1 0.5 2.25", "s1-u2 rec1 3 -1", "s2-u3 rec2 0 1")
    lines(data / "text", "s1-u1 Hello, you.", "s1-u2", "s2-u3 No")
    lines(data / "utt2spk", "s1-u1 s1", "s1-u2 s1", "s2-u3 s2")
    lines(data / "spk2gender", "s1 f", "s2 m")
    lines(data / "utt2emo", "s1-u1 anger", "s1-u2 awe", "s2-u3 neutral")
    touch(tmp_path, "audio/my file.wav", "audio/b.wav")
    spec = edited(
        "kaldi.yaml", tables={"train": "data/train/wav.scp"}, fields={"session": "gender"}
    )
    corpus = read(tmp_path, spec, max_problems=1)
    first, last = corpus.utterances
    assert (first.text, first.speaker, first.session, first.label) == (
        "Hello, you.",
        "s1",
        "f",
        "ang",
    )
    assert (first.segment, first.audio) == ((0.5, 2.25), tmp_path / "audio/my file.wav")
    assert (last.split, last.label) == ("train", "neu")
    assert [(one.kind, one.where) for one in corpus.problems] == [("missing transcript", "s1-u2")]
    [second] = [one for one in read(tmp_path, spec, modalities=["audio"]).utterances
                if one.id == "s1-u2"]  # fmt: skip
    assert second.segment == (3.0, None)


def test_kaldi_commands_are_never_run(tmp_path):
    data = tmp_path / "data/train"
    lines(data / "wav.scp", "u1 touch ran |", "u2 a.wav", "u2 b.wav")
    lines(data / "utt2spk", "u1 s1")
    lines(data / "utt2emo", "u1 joy", "u2 joy")
    touch(tmp_path, "a.wav", "b.wav")
    spec = edited("kaldi.yaml", tables="data/train/wav.scp", fields={"text": None})
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, spec)
    assert "wav.scp:1: u1 is made by a command, which is not run" in str(caught.value)
    assert "wav.scp:3: u2 stands in it twice" in str(caught.value)
    assert not (tmp_path / "ran").exists()


# --- lhotse ---


def manifests(root, sources):
    recordings = [{"id": "r1", "sources": sources, "sampling_rate": 16000, "num_samples": 64000,
                   "duration": 4.0}]  # fmt: skip
    turns = [
        {"id": "t1", "recording_id": "r1", "start": 0.1, "duration": 0.2, "channel": 0,
         "text": "Yes.", "speaker": "s1", "custom": {"emotion": "anger"}},
        {"id": "t2", "recording_id": "r1", "start": 1.0, "duration": 2.0, "channel": [0, 1],
         "text": "No.", "speaker": "s2", "custom": {"emotion": "boredom"}},
    ]  # fmt: skip
    for name, rows in (("recordings", recordings), ("supervisions", turns)):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (root / f"{name}_train.jsonl.gz").write_bytes(gzip.compress(content))


def test_lhotse(tmp_path):
    touch(tmp_path, "a.flac")
    manifests(tmp_path, [{"type": "file", "channels": [0], "source": "a.flac"}])
    spec = edited("lhotse.yaml", tables="supervisions_train.jsonl.gz")
    one, two = read(tmp_path, spec).utterances
    assert (one.segment, two.segment) == ((0.1, 0.3), (1.0, 3.0))  # not 0.30000000000000004
    assert (one.label, two.label, two.speaker) == ("ang", "bor", "s2")
    manifests(tmp_path, [{"type": "command", "channels": [0], "source": "cat a.flac"}])
    with pytest.raises(CorpusError, match=r"recording r1 comes from command: .*never run"):
        read(tmp_path, spec)
    (tmp_path / "recordings_train.jsonl.gz").unlink()
    with pytest.raises(CorpusError, match="lhotse's recordings are looked for"):
        read(tmp_path, spec)


# --- recordings inside other files ---


def wave(number):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(160, number / 10), 16000, format="FLAC")
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_webdataset(tmp_path):
    for split, key in (("train", 1), ("test", 2)):
        about = {"emotion": "anger", "speaker": f"s{key}", "audio": "gone.wav"}
        write_tar(
            tmp_path / f"{split}-000.tar",
            [(f"a/{key:04d}.flac", wave(key)), (f"a/{key:04d}.json", json.dumps(about).encode()),
             (f"a/{key:04d}.txt", "Schön.\n".encode()), ("._x.flac", b"")],
        )  # fmt: skip
    one, two = read(tmp_path, "webdataset.yaml").utterances
    assert (one.id, one.label, one.speaker, one.text, one.split) == (
        "a/0001", "ang", "s1", "Schön.", "train",
    )  # fmt: skip
    assert (read_recording(one), read_recording(two)) == (wave(1), wave(2))
    write_tar(tmp_path / "train-000.tar", [("b.flac", wave(1))])
    with pytest.raises(UserError, match=r"there is no a/0001\.flac at byte 0 any more"):
        read_recording(one)
    with pytest.raises(CorpusError, match="no column 'emotion', 'speaker', 'txt'"):
        read(tmp_path, "webdataset.yaml")
    (tmp_path / "train-000.tar").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(CorpusError, match="cannot be read as a tar"):
        read(tmp_path, "webdataset.yaml")


def test_hub_parquet(tmp_path):
    (tmp_path / "data").mkdir()
    info = {"info": {"features": {"emotion": {"_type": "ClassLabel", "names": ["joy", "fear"]}}}}
    for split in ("train", "test"):
        table = pa.table({
            "audio": [{"bytes": wave(n), "path": f"{n}.flac"} for n in (1, 2)],
            "text": ["a", "b"], "emotion": [0, 1], "speaker_id": [3, 4],
        })  # fmt: skip
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, tmp_path / f"data/{split}-00000-of-00001.parquet")
    found = read(tmp_path, "hub_parquet.yaml").utterances
    assert [(one.split, one.label, one.speaker) for one in found] == [
        ("test", "joy", "3"), ("test", "fea", "4"), ("train", "joy", "3"), ("train", "fea", "4"),
    ]  # fmt: skip
    assert read_recording(found[1]) == wave(2)


# --- folders and one table ---


def test_folders(tmp_path):
    touch(tmp_path, "anger/a.wav", "Anger/more/b.FLAC", "awe/c d.mp3", "awe/notes.txt")
    corpus = read(tmp_path, "folders.yaml")
    assert {one.id: one.label for one in corpus.utterances} == {
        "anger/a.wav": "ang", "Anger/more/b.FLAC": "ang", "awe/c d.mp3": "awe",
    }  # fmt: skip
    assert any("3 of 4 rows fit `where`" in note for note in corpus.notes)


def test_the_template_for_a_table(tmp_path):
    touch(tmp_path, "wav/a.wav", "wav/b.wav")
    lines(tmp_path / "my.csv", "file,text,emotion,speaker", "wav/a.wav,Hi.,Joy,s1",
          "wav/b.wav,Oh.,anger,s2")  # fmt: skip
    found = by_id(read(tmp_path, "csv.yaml"))
    assert {one.label for one in found.values()} == {"joy", "ang"}
    assert found["wav/b.wav"].speaker == "s2"
