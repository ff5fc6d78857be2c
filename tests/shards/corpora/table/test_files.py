"""Folders as other programs leave them: links, accents, times of a recording, recordings inside."""

import json
import os
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from table_specs import LABELS, by_id, read, simple, text_spec, touch

from shards.configfile import ConfigError
from shards.corpora.base import CorpusError
from shards.corpora.embedded import read_recording
from shards.corpora.table.times import seconds
from shards.extract.audio import AudioConfig, AudioError
from shards.extract.audio.turn import load_turn

RATE = 8000
CONFIG = AudioConfig(sample_rate=RATE)


# --- patterns ---


def file_spec(*patterns, **changes):
    pattern = {"column": "stem", "regex": r"(?P<n>\d)_(?P<emotion>\w+)$"}
    return {"audio_files": list(patterns), "patterns": [pattern], "labels": LABELS,
            "fields": {"id": "path", "audio": "path", "label": "emotion"}} | changes  # fmt: skip


def ids(corpus):
    return [one.id for one in corpus.utterances]


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    touch(tmp_path, "wav/1_joy.wav", "wav/2_rage.WAV", "wav/notes.txt", "wav/3_joy.flac")
    corpus = read(tmp_path, file_spec("wav/*.wav"))
    assert ids(corpus) == ["wav/1_joy.wav", "wav/2_rage.WAV"]
    [note] = [note for note in corpus.notes if "no pattern names" in note]
    assert "2 (.flac: 1, .txt: 1), wav/3_joy.flac, wav/notes.txt" in note


def test_linked_folders_are_entered_once(tmp_path):
    root = tmp_path / "corpus"
    touch(tmp_path, "elsewhere/deep/2_rage.wav")
    touch(root, "a/1_joy.wav")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "a/loop").symlink_to(root)
    (root / "0").symlink_to(root / "a")  # comes first by name, and is still the second way
    corpus = read(root, file_spec("**/*.wav"))
    assert ids(corpus) == ["a/1_joy.wav", "link/deep/2_rage.wav"]
    [note] = [note for note in corpus.notes if "linked folders" in note]
    assert "0, a/loop" in note


@pytest.mark.parametrize("table", ["NFC", "NFD"])
def test_accents_composed_or_decomposed(tmp_path, table):
    disk = "NFD" if table == "NFC" else "NFC"
    touch(tmp_path, unicodedata.normalize(disk, "tränen/1_süß.wav"))
    (tmp_path / "t.csv").write_text(
        unicodedata.normalize(table, "id,path,emotion\na,tränen/1_süß.WAV,joy\n")
    )
    spec = text_spec("t.csv", fields={"id": "id", "audio": "path", "label": "emotion"})
    [one] = read(tmp_path, spec).utterances
    assert one.audio.is_file()
    # The pattern of a file name, and the words of `labels`, are composed: \w is no accent.
    pattern = unicodedata.normalize(table, "tränen/*_süß.wav")
    [path] = ids(read(tmp_path, file_spec(pattern, fields={"id": "path", "audio": "path",
        "label": "word"}, patterns=[{"column": "stem", "regex": r"1_(?P<word>\w+)$"}],
        labels={unicodedata.normalize("NFC", "süß"): "hap"})))  # fmt: skip
    assert (tmp_path / path).is_file()


def test_a_file_name_that_is_not_utf_8(tmp_path):
    touch(tmp_path, "1_joy.wav")
    with open(os.fsencode(tmp_path) + b"/2_m\xe4d_rage.wav", "wb") as file:
        file.write(b"RIFF")
    spec = file_spec("*.wav", patterns=[{"column": "stem", "regex": r"(?P<emotion>[a-z]+)$"}])
    corpus = read(tmp_path, spec, max_problems=1)
    assert ids(corpus) == ["1_joy.wav"]
    [problem] = corpus.problems
    assert (problem.kind, problem.where) == ("not Unicode", "2_m\\udce4d_rage.wav")
    "".join([*corpus.notes, problem.what]).encode()
    by_number = file_spec(
        "*.wav",
        patterns=[{"column": "stem", "regex": r"(?P<n>\d)_.*?(?P<emotion>[a-z]+)$"}],
        fields={"id": "n", "audio": "path", "label": "emotion"},
    )
    corpus = read(tmp_path, by_number)  # only what is stored has to be text
    assert ids(corpus) == ["1", "2"]
    assert corpus.utterances[1].audio.is_file()
    corpus.utterances[1].source.encode()


def test_a_root_that_is_a_link(tmp_path):
    touch(tmp_path, "real/a.wav")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    (tmp_path / "real/t.csv").write_text(f"id,path,emotion\na,{tmp_path}/real/a.wav,joy\n")
    spec = text_spec("t.csv", fields={"id": "id", "audio": "path", "label": "emotion"})
    [one] = read(tmp_path / "root", spec).utterances
    assert one.audio == tmp_path / "root/a.wav"


def test_recordings_that_are_the_same_under_other_names(tmp_path):
    noise = np.random.default_rng(0).bytes(20_000)
    other = noise[:9000] + b"x" + noise[9001:]
    contents = {"1_joy": noise, "2_rage": noise, "3_joy": noise[::-1], "4_joy": other}
    for name, data in contents.items():
        touch(tmp_path, f"wav/{name}.wav")
        (tmp_path / f"wav/{name}.wav").write_bytes(data)
    [note] = [n for n in read(tmp_path, file_spec("wav/*.wav")).notes if "byte for byte" in n]
    assert "1 recordings are" in note
    assert f"{tmp_path}/wav/1_joy.wav, {tmp_path}/wav/2_rage.wav" in note
    (tmp_path / "wav/2_rage.wav").write_bytes(noise[1:])
    notes = read(tmp_path, file_spec("wav/*.wav")).notes
    assert not any("byte for byte" in note for note in notes)


# --- times and segments ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5", 1.5), ("1,5", 1.5), (" 1.5s", 1.5), ("1500 ms", 1.5), ("1e-1", 0.1), ("-1", -1.0),
        ("0 days 00:00:00.5", 0.5), ("0 days 00:00:01.250000000", 1.25), ("0 days", 0.0),
        ("1 day, 0:00:01", 86401.0), ("-1 days +23:59:59", -1.0),
        ("00:20:57,256", 1257.256), ("01:00:00,5", 3600.5), ("1:30", 90.0),
        ("NaT", None), ("nan", None), ("", None), ("<NA>", None),
    ],
)  # fmt: skip
def test_times(text, expected):
    assert seconds(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("text", ["soon", "+", "1:2:3:4", "1_000", "inf", "1e999", "0x10", "1 h"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"\S"):
        seconds(text)


@pytest.fixture
def dialogue(tmp_path):
    """A recording of 3 s, each second another tone, and its samples."""
    time = np.arange(RATE) / RATE
    wave = np.concatenate([0.3 * np.sin(2 * np.pi * f * time) for f in (200, 300, 400)])
    soundfile.write(tmp_path / "d.wav", wave.astype(np.float32), RATE, subtype="FLOAT")
    return wave.astype(np.float32)


TIMED = {"id": "{file}-{row}", "audio": "file", "label": "emotion", "start": "start", "end": "end"}


def timed(root, rows, **changes):
    (root / "t.csv").write_text("\n".join(["file,start,end,emotion", *rows]) + "\n")
    return read(root, text_spec("t.csv", fields=TIMED, **changes), max_problems=9)


def test_rows_that_share_a_recording_are_cut_from_it(tmp_path, dialogue):
    rows = ["d.wav,0 days 00:00:00,0 days 00:00:00.5,joy", "d.wav,0 days 00:00:01.5,NaT,rage",
            "d.wav,00:00:01,\"00:00:01,25\",joy"]  # fmt: skip
    first, second, third = timed(tmp_path, rows).utterances
    assert [one.segment for one in (first, second, third)] == [(0, 0.5), (1.5, None), (1, 1.25)]
    np.testing.assert_array_equal(load_turn(first, CONFIG).wave, dialogue[:4000])
    np.testing.assert_array_equal(load_turn(second, CONFIG).wave, dialogue[12000:])
    np.testing.assert_array_equal(load_turn(third, CONFIG).wave, dialogue[8000:10000])


def test_a_segment_without_an_end_or_an_order(tmp_path, dialogue):
    rows = ["d.wav,1,1,joy", "d.wav,2,1,joy", "d.wav,-0.5,1,joy", "d.wav,2,-1,joy", "d.wav,0,,joy"]
    corpus = timed(tmp_path, rows)
    assert [problem.kind for problem in corpus.problems] == ["bad times", "bad times"]
    assert [one.segment for one in corpus.utterances] == [(0, 1), (2, None), None]


def test_the_whole_recording_is_never_taken_for_a_part(tmp_path, dialogue):
    [one] = timed(tmp_path, ["d.wav,1,2,joy"]).utterances  # nothing is shared: is it a part?
    with pytest.raises(AudioError, match=r"outside: .*`segments`.*true cuts it"):
        load_turn(one, CONFIG)
    [one] = timed(tmp_path, ["d.wav,1,2,joy"], segments=True).utterances
    np.testing.assert_array_equal(load_turn(one, CONFIG).wave, dialogue[8000:16000])
    [one] = timed(tmp_path, ["d.wav,1,9,joy"], segments=True).utterances
    with pytest.raises(AudioError, match="outside"):
        load_turn(one, CONFIG)


def test_segments_false_says_that_times_are_no_places_in_the_file(tmp_path, dialogue):
    rows = ["d.wav,1,2,joy"]
    [one] = timed(tmp_path, rows, segments=False).utterances
    recording = load_turn(one, CONFIG)
    np.testing.assert_array_equal(recording.wave, dialogue)
    assert [kind for kind, _ in recording.remarks] == ["other length"]
    both = timed(tmp_path, [*rows, "d.wav,2,3,joy"], segments=False).utterances
    assert [len(load_turn(one, CONFIG).wave) for one in both] == [len(dialogue)] * 2


def test_times_of_a_longer_recording_are_compared_with_the_file(tmp_path, dialogue):
    right, short, backwards = timed(
        tmp_path, ["d.wav,100,103,joy"]
    ).utterances + timed(tmp_path, ["d.wav,100,305,joy"]).utterances + timed(
        tmp_path, ["d.wav,100,100,joy"]
    ).utterances  # fmt: skip
    assert load_turn(right, CONFIG).remarks == ()
    [(kind, reason)] = load_turn(short, CONFIG).remarks
    assert (kind, reason) == ("other length", "the recording has 3.00 s, its times say 205.00 s")
    assert [kind for kind, _ in load_turn(backwards, CONFIG).remarks] == ["other length"]
    notes = timed(tmp_path, ["d.wav,100,305,joy"]).notes
    assert any("1 turns are longer than 60 s" in note and "t.csv:2" in note for note in notes)
    notes = timed(tmp_path, ["d.wav,100,100,joy"]).notes
    assert any("1 turns do not end after their start" in note for note in notes)


def test_a_long_turn_is_told(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(61 * RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    spec = text_spec("t.csv", fields={"id": "id", "audio": "path", "label": "emotion"})
    (tmp_path / "t.csv").write_text("id,path,emotion\na,a.wav,joy\n")
    [one] = read(tmp_path, spec).utterances
    assert load_turn(one, CONFIG).remarks == (("long", "61.0 s"),)
    strict = CONFIG.model_copy(update={"max_seconds": 60.0})
    with pytest.raises(AudioError, match=r"too long: 61\.0 s, more than audio\.max_seconds = 60"):
        load_turn(one, strict)


def test_durations_of_parquet(tmp_path, dialogue):
    table = pa.table(
        {"file": ["d.wav", "d.wav"], "emotion": ["joy", "rage"],
         "start": pa.array([0, 1_500_000_000], pa.duration("ns")),
         "end": pa.array([500_000_000, None], pa.duration("ns"))}
    )  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    corpus = read(tmp_path, text_spec("t.parquet", fields=TIMED))
    assert [one.segment for one in corpus.utterances] == [(0, 0.5), (1.5, None)]


# --- recordings inside Parquet ---


def test_recordings_inside_parquet(tmp_path, dialogue):
    sound = (tmp_path / "d.wav").read_bytes()
    cells = [{"bytes": sound, "path": "x/a.wav"}, {"bytes": None, "path": "d.wav"}, None,
             {"bytes": sound[:1000], "path": None}]  # fmt: skip
    features = {"emotion": {"_type": "ClassLabel", "names": ["rage", "joy"]}}
    table = pa.table({"id": list("abcd"), "audio": cells, "emotion": [1, 0, 1, 1]})
    info = json.dumps({"info": {"features": features}})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": info}), tmp_path / "t.parquet",
        row_group_size=2,
    )  # fmt: skip
    fields = {"id": "id", "audio": "audio", "label": "emotion"}
    corpus = read(tmp_path, text_spec("t.parquet", fields=fields), max_problems=1)
    one, two, cut = corpus.utterances
    assert [(item.id, item.label) for item in (one, two, cut)] == [
        ("a", "hap"), ("b", "ang"), ("d", "hap"),
    ]  # fmt: skip
    assert [problem.where for problem in corpus.problems] == ["c"]
    assert (one.embedded, two.embedded) == (("audio", 0), None)
    assert read_recording(one) == read_recording(two) == sound
    np.testing.assert_array_equal(load_turn(one, CONFIG).wave, dialogue)
    np.testing.assert_array_equal(load_turn(two, CONFIG).wave, dialogue)
    with pytest.raises(AudioError, match="truncated"):
        load_turn(cut, CONFIG)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_that_is_a_pointer_of_git_lfs(tmp_path, suffix):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n"
    (tmp_path / f"t.{suffix}").write_text(pointer)
    with pytest.raises(CorpusError, match="pointer of Git LFS"):
        read(tmp_path, text_spec(f"t.{suffix}"))


@pytest.mark.parametrize("absolute", [True, False])
def test_audio_outside_the_root_names_a_remedy_that_works(tmp_path, absolute):
    touch(tmp_path, "sound/wav/a.wav")
    (tmp_path / "lists").mkdir()
    cell = str(tmp_path / "sound/wav/a.wav") if absolute else "../sound/wav/a.wav"
    (tmp_path / "lists/t.csv").write_text(f"id,path,text,emotion\na,{cell},x,joy\n")
    spec = simple(tables="t.csv")
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "lists", spec)
    assert f"set corpus.root={tmp_path}, a folder above both, and name the tables" in str(
        caught.value
    )
    assert ("'{folder}/{COLUMN}'" in str(caught.value)) == (not absolute)
    audio = "path" if absolute else "{folder}/{path}"
    spec = simple(tables="lists/t.csv", fields={"audio": audio})
    assert by_id(read(tmp_path, spec))["a"].audio == tmp_path / "sound/wav/a.wav"


def test_a_table_outside_the_root_can_be_named_from_the_root_of_all(tmp_path):
    touch(tmp_path, "wav/a.wav")
    (tmp_path / "t.csv").write_text(f"id,path,text,emotion\na,{tmp_path}/wav/a.wav,x,joy\n")
    with pytest.raises(ConfigError, match=r"set corpus\.root to a folder above \(/ will do\)"):
        read(tmp_path / "wav", simple(tables="../t.csv"))
    found = read("/", simple(tables=str(tmp_path / "t.csv")[1:]))
    assert by_id(found)["a"].audio == tmp_path / "wav/a.wav"


@pytest.mark.parametrize("path", [" wav/a.wav ", "wav\\a.wav", ".\\wav\\a.wav"])
def test_paths_with_blanks_around_them_or_of_windows(path, tmp_path):
    (tmp_path / "table.csv").write_text(f"id,path,text,emotion\n1,{path},x,joy\n")
    touch(tmp_path, "wav/a.wav")
    [one] = read(tmp_path, simple()).utterances
    assert one.audio == tmp_path / "wav/a.wav"


def test_a_name_that_has_a_backslash_or_blanks_is_taken_first(tmp_path):
    (tmp_path / "table.csv").write_text("id,path,text,emotion\n1,a\\b.wav,x,joy\n2, c.wav,x,joy\n")
    touch(tmp_path, "a\\b.wav", " c.wav", "a/b.wav", "c.wav")
    found = [one.audio.name for one in read(tmp_path, simple()).utterances]
    assert found == ["a\\b.wav", " c.wav"]
