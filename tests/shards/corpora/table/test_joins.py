"""Several tables of one corpus, text files beside the audio, conditions, raters, and its counts."""

import gzip
import json

import pytest
from table_specs import by_id, read, simple, text_spec, texts, touch

from shards.configfile import ConfigError
from shards.corpora.base import CorpusError

LABELS_HERE = "id,emotion\na,joy\nb,rage\nc,joy\n"


def joined(**changes):
    join = {"tables": "texts.tsv", "key": "file", "on": "{id}.wav", "columns": {"text": "words"}}
    return text_spec("t.csv", joins=[join | changes])


def test_labels_here_and_transcripts_there(tmp_path):
    (tmp_path / "t.csv").write_text(LABELS_HERE)
    (tmp_path / "texts.tsv").write_text("file\twords\nb.wav\tNo.\n a.wav\tOh, yes.\nz.wav\tX\n")
    corpus = read(tmp_path, joined(), max_problems=1)
    assert texts(corpus) == {"a": "Oh, yes.", "b": "No."}
    [note] = [note for note in corpus.notes if "no partner" in note]
    assert "1 of 3 rows have no partner in texts.tsv" in note
    assert f"{tmp_path}/t.csv:4" in note
    assert [(one.kind, one.where) for one in corpus.problems] == [("missing transcript", "c")]


def test_a_join_that_no_field_needs_is_not_read(tmp_path):
    (tmp_path / "t.csv").write_text("id,emotion,path\na,joy,a.wav\n")
    touch(tmp_path, "a.wav")
    spec = joined()
    spec["fields"] = spec["fields"] | {"audio": "path"}
    assert len(read(tmp_path, spec, modalities=["audio"]).utterances) == 1
    with pytest.raises(CorpusError, match=r"no table 'texts.tsv'"):
        read(tmp_path, spec)


def test_a_missing_column_of_a_join_is_told(tmp_path):
    (tmp_path / "t.csv").write_text(LABELS_HERE)
    (tmp_path / "texts.tsv").write_text("file\tword\na.wav\tx\n")
    with pytest.raises(CorpusError, match=r"texts.tsv has no column 'words'.*did you mean 'word'"):
        read(tmp_path, joined())
    with pytest.raises(ConfigError, match="give the join its tables"):
        read(tmp_path, joined(tables={}))


def test_several_partners_are_told_or_wanted(tmp_path):
    (tmp_path / "t.csv").write_text("id,emotion,text\na,joy,x\nb,rage,y\n")
    (tmp_path / "raters.csv").write_text("clip,who,vote\na,1,joy\na,2,rage\na,3,\nb,1,rage\n")
    join = {"tables": "raters.csv", "key": "clip", "on": "id", "columns": ["vote"]}
    spec = text_spec("t.csv", joins=[join | {"many": True}])
    spec["fields"] = spec["fields"] | {"votes": "vote"}
    votes = {name: one.votes for name, one in by_id(read(tmp_path, spec)).items()}
    assert votes == {"a": (("hap",), ("ang",)), "b": (("ang",),)}
    spec["joins"] = [join]
    corpus = read(tmp_path, spec)
    assert by_id(corpus)["a"].votes == (("hap",),)
    assert any("several partners" in note and "many: true" in note for note in corpus.notes)


def test_the_partner_that_is_nearest_in_time(tmp_path):
    (tmp_path / "t.csv").write_text(
        "id,emotion,film,from\na,joy,f,0.0\nb,rage,f,7.38\nc,joy,f,90\n"
    )
    (tmp_path / "texts.tsv").write_text("film\tbegin\twords\nf\t0.02\tOne\nf\t7.4\tTwo\nf\tx\tNo\n")
    join = {"key": "film", "on": "film",
            "nearest": {"column": "begin", "to": "from", "within": 0.1}}  # fmt: skip
    corpus = read(tmp_path, joined(**join), max_problems=1)
    assert texts(corpus) == {"a": "One", "b": "Two"}


def test_text_files_beside_the_audio(tmp_path):
    touch(tmp_path, "joy/a.wav", "rage/b (1).wav")
    (tmp_path / "joy/a.txt").write_text("\ufeff\u200fGuten Tag.\n", encoding="utf-8")
    (tmp_path / "rage/b (1).txt").write_bytes("Schön.".encode("cp1252"))
    spec = {
        "audio_files": "*/*.wav",
        "encoding": ["utf-8", "cp1252"],
        "patterns": [{"column": "path", "regex": "^(?P<emotion>[^/]+)/"}],
        "fields": {"id": "stem", "audio": "path", "label": "emotion",
                   "text": {"file": "{folder}/{stem}.txt"}},
        "labels": {"joy": "hap", "rage": "ang"},
    }  # fmt: skip
    assert texts(read(tmp_path, spec)) == {"a": "Guten Tag.", "b (1)": "Schön."}
    (tmp_path / "joy/a.txt").unlink()
    with pytest.raises(CorpusError, match=r"missing transcript: a: there is no file joy/a\.txt"):
        read(tmp_path, spec)
    spec["fields"]["text"] = {"file": "../{stem}.txt"}
    with pytest.raises(CorpusError, match=r"the text path '\.\./a\.txt' leads out"):
        read(tmp_path, spec)
    spec["fields"]["speaker"] = {"file": "{stem}"}
    with pytest.raises(ConfigError, match="only `text`"):
        read(tmp_path, spec)


def test_conditions_counts_and_unnamed_columns(tmp_path):
    (tmp_path / "t.csv").write_text(
        ",id,text,emotion,A,H\n1001,a,x,joy,2,1\n2001,a,x,rage,0,3\n1002,b,y,rage,1.0,\n"
    )
    spec = text_spec("t.csv", where={"column 1": "^1"})
    spec["fields"] = spec["fields"] | {"votes": {"counts": {"A": "rage", "H": "joy"}}}
    corpus = read(tmp_path, spec)
    assert {name: one.votes for name, one in by_id(corpus).items()} == {
        "a": (("ang",), ("ang",), ("hap",)), "b": (("ang",),),
    }  # fmt: skip
    assert any("2 of 3 rows fit `where`" in note for note in corpus.notes)
    (tmp_path / "t.csv").write_text(",id,text,emotion,A,H\n1001,a,x,joy,many,1\n")
    with pytest.raises(CorpusError, match="'many' in column 'A' is no number of raters"):
        read(tmp_path, spec)


def test_tables_without_header_and_with_bad_lines(tmp_path):
    (tmp_path / "t.txt").write_text("a; x; joy\nb; y\nc; z; rage; 1\n")
    spec = text_spec("t.txt", format="csv", delimiter=";", header=["id", "text", "emotion"])
    with pytest.raises(CorpusError, match="2 errors"):
        read(tmp_path, spec)
    corpus = read(tmp_path, spec | {"bad_lines": "skip"})
    assert [one.id for one in corpus.utterances] == ["a"]
    assert any("2 lines of" in note and "left out" in note for note in corpus.notes)


def test_gzip(tmp_path):
    line = json.dumps({"id": "a", "text": "ö", "emotion": "joy"}, ensure_ascii=False)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(f"\ufeff{line}\n".encode()))
    assert texts(read(tmp_path, text_spec("t.jsonl.gz"))) == {"a": "ö"}
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(line.encode())[:-12])
    with pytest.raises(CorpusError, match=r"t.jsonl.gz cannot be read"):
        read(tmp_path, text_spec("t.jsonl.gz"))


def test_globs_among_labels_and_any_label(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,emotion\na,x,Other-bored\nb,x,A:N\nc,x,JOY\nd,x,Awe\n")
    labels = {"joy": "hap", "*:*": "xxx", "other-*": "oth", "*": "*"}
    found = by_id(read(tmp_path, text_spec("t.csv", labels=labels)))
    assert [one.label for one in found.values()] == ["oth", "xxx", "hap", "awe"]
    found = by_id(read(tmp_path, text_spec("t.csv", labels="any")))
    assert [one.label for one in found.values()] == ["other-bored", "a:n", "joy", "awe"]
    (tmp_path / "t.csv").write_text("id,text,emotion\na,x, \n")
    with pytest.raises(CorpusError, match="the empty label: unknown, once"):
        read(tmp_path, text_spec("t.csv", labels="any"))


def test_counts_are_compared_with_the_release_that_is_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,emotion\na,x,joy\nb,x,rage\n")
    one = {"release": "1", "rows": 2, "speakers": 1, "classes": {"happy": 1, "anger": 1}}
    two = {"release": "2", "rows": 40, "classes": {"happy": 20, "anger": 20}}

    def note(expect):
        notes = read(tmp_path, text_spec("t.csv", expect=expect)).notes
        return next(n for n in notes if n.startswith(("every count", "WARNING: the counts")))

    assert note([two, one]) == "every count equals that of 1 (known: 2, 1)"
    assert note(one | {"release": ""}) == "every count equals that of the known release"
    assert note(one | {"rows": 3, "classes": {"anger": 2}, "splits": {"test": 1}}) == (
        "WARNING: the counts differ from those of 1: 2 rows, not 3; 1 of class ang, not 2; "
        "1 of class hap, not 0; 0 in test, not 1; restore what is missing, or read on if this copy "
        "is meant to differ"
    )


def test_known_bad_recordings_are_left_out_where_audio_is_read(tmp_path):
    (tmp_path / "table.csv").write_text("id,path,text,emotion\na,a.wav,x,joy\nb,b.wav,y,joy\n")
    touch(tmp_path, "a.wav")
    spec = simple(bad_audio={"b": "broken in the release", "z": "not here"}, expect={"rows": 2})
    corpus = read(tmp_path, spec)
    assert [one.id for one in corpus.utterances] == ["a"]
    assert any("known to be bad:\n  b: broken in the release" in note for note in corpus.notes)
    assert "every count equals that of the known release" in corpus.notes
    assert len(read(tmp_path, spec, modalities=["text"]).utterances) == 2


def test_audio_root_and_absolute_paths_on_request(tmp_path):
    root, elsewhere = tmp_path / "tables", tmp_path / "audio"
    touch(elsewhere, "sub/a.wav")
    root.mkdir()
    (root / "table.csv").write_text("id,path,text,emotion\na,sub/a.wav,x,joy\n")
    [one] = read(root, simple(), audio_root=str(elsewhere)).utterances
    assert one.audio == elsewhere / "sub/a.wav"
    (root / "table.csv").write_text(f"id,path,text,emotion\na,{elsewhere}/sub/a.wav,x,joy\n")
    with pytest.raises(CorpusError, match=r"leads out .*corpus\.absolute_paths=true"):
        read(root, simple())
    [one] = read(root, simple(), absolute_paths=True).utterances
    assert one.audio == elsewhere / "sub/a.wav"
