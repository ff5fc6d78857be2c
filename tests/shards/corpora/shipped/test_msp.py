"""Corpora with blocks of raters or HDF5: MSP-Podcast, MSP-IMPROV, CMU-MOSEI."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from table_specs import by_id, read, touch

BENCHMARKS = str(Path(__file__).parents[4] / "benchmarks")


@pytest.fixture(scope="module")
def podcast(tmp_path_factory):
    """A made release of 2,000 turns, as the benchmark writes it."""
    sys.path.insert(0, BENCHMARKS)
    import corpora

    root = tmp_path_factory.mktemp("podcast") / "release"
    corpora.make(root, 2000)
    yield root, corpora
    sys.path.remove(BENCHMARKS)


def test_msp_podcast_has_every_class_part_and_rater(podcast):
    root, made = podcast
    corpus = read(root, "msp_podcast.yaml")
    rows = [line.split(",") for line in (root / "Labels/labels_consensus.csv").open()][1:]
    found = by_id(corpus)
    assert len(found) == 2000
    letters = {"ang": "A", "contempt": "C", "dis": "D", "fea": "F", "hap": "H", "neu": "N",
               "sad": "S", "sur": "U", "oth": "O", "xxx": "X"}  # fmt: skip
    assert Counter(letters[one.label] for one in found.values()) == Counter(row[1] for row in rows)
    assert set(letters) == {one.label for one in found.values()}
    parts = Counter((one.session, one.split) for one in found.values())
    assert set(parts) == {("Train", "train"), ("Development", "val"), ("Test1", "test"),
                          ("Test2", "test")}  # fmt: skip
    assert sum(len(one.votes) for one in found.values()) == sum(
        line.startswith("WORKER") for line in (root / "Labels/labels.txt").open()
    )
    one = found["MSP-PODCAST_0000_0000"]
    assert (one.speaker, one.text) == ("Unknown", "This is what was said in turn 0.")
    assert one.audio == root / "Audios/MSP-PODCAST_0000_0000.wav"
    assert {code for vote in one.votes for code in vote} <= {*letters}
    assert made.read_plainly(root) > 2000


def test_msp_podcast_knows_its_releases(podcast):
    notes = read(podcast[0], "msp_podcast.yaml").notes
    [differs] = [note for note in notes if "the counts differ" in note]
    assert "2.0" in differs
    assert "1.8" in differs


def test_an_older_release_spells_its_table_otherwise(tmp_path):
    touch(tmp_path, "Audios/MSP-PODCAST_0001_0008.wav", "Audios/MSP-PODCAST_0002_0001.wav")
    for name in ("0001_0008", "0002_0001"):
        path = tmp_path / f"Transcripts/MSP-PODCAST_{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("Well.")
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels/labels_concensus.csv").write_text(
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
        "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1\n"
        "MSP-PODCAST_0002_0001.wav,C,2.2,4.0,2.6,Unknown,Unknown,Validation\n"
    )
    (tmp_path / "Labels/labels.txt").write_text(
        "MSP-PODCAST_0001_0008.wav; N; A:2.400000; V:4.000000; D:2.800000;\n"
        "WORKER00000325; Neutral; Neutral,Concerned; A:2.000000; V:4.000000; D:2.000000;\n"
        "WORKER00000326; Other-Dissapointed; Sad; A:3.000000; V:4.000000; D:2.000000;\n"
        "WORKER00000326; Other-Dissapointed; Sad; A:3.000000; V:4.000000; D:2.000000;\n\n"
    )
    corpus = read(tmp_path, "msp_podcast.yaml")
    one, two = corpus.utterances
    assert one.votes == (("neu",), ("oth",))  # the line that stands twice counts once
    assert (two.label, two.split, two.votes) == ("contempt", "val", ())
    assert any("1 raters' lines" in note for note in corpus.notes)
    assert any("1 of 2 rows have no partner in Labels/labels.txt" in n for n in corpus.notes)


def test_msp_improv(tmp_path):
    stem = "IMPROV-S01A-F01-P-FM01"
    touch(
        tmp_path,
        f"session1/S01A/P/MSP-{stem}.wav",
        "session6/S13S/R/MSP-IMPROV-S13S-M06-R-MF02.wav",
    )
    (tmp_path / "Evalution.txt").write_text(
        f"UTD-{stem}.avi; N; A:2.571429; V:3.000000; D:3.142857 ; N:3.857143;\n"
        "WORKER1; Neutral; Neutral; A:NaN; V:3.000000; D:3.000000 ; N:4.000000;\n"
        "WORKER2; Angry; Angry,Other; A:2.000000; V:3.000000; D:3.000000 ; N:4.000000;\n\n"
        "UTD-IMPROV-S13S-M06-R-MF02.avi; X; A:2.5; V:3.0; D:3.1 ; N:NaN;\n"
        "WORKER9; Other-bored; Sad; A:2.0; V:3.0; D:3.0 ; N:4.0;\n"
    )
    found = by_id(read(tmp_path, "msp_improv.yaml"))
    one, two = found[f"MSP-{stem}"], found["MSP-IMPROV-S13S-M06-R-MF02"]
    assert (one.label, one.speaker, one.session) == ("neu", "F01", "1")
    assert one.votes == (("neu",), ("ang",))
    assert (two.label, two.speaker, two.session, two.votes) == ("xxx", "M06", "6", (("oth",),))


def test_cmu_mosei(tmp_path):
    import h5py

    with h5py.File(tmp_path / "CMU_MOSEI_Labels.csd", "w") as file:
        data = file.create_group("All Labels/data")
        for video, rows, times in (
            ("-3g5yACwYnA", [[1, 2, 0, 0, 0, 0, 0.5], [-1, 0, 1, 1, 0, 0, 0]],
             [[4.8, 13.4], [13.4, 20]]),
            ("12345", [[0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]], [[-0.1, 3], [9, 9]]),
        ):  # fmt: skip
            data.create_dataset(f"{video}/features", data=rows)
            data.create_dataset(f"{video}/intervals", data=times)
    folder = tmp_path / "Raw/Transcript/Segmented/Combined"
    folder.mkdir(parents=True)
    # Not in the order of the labels, and one that has none.
    (folder / "-3g5yACwYnA.txt").write_text(
        "-3g5yACwYnA___3___13.3999___20.0___A lot ___ of it\n-3g5yACwYnA___2___4.84___13.4___Key\n"
        "-3g5yACwYnA___9___70.0___80.0___Unlabelled\n"
    )
    (folder / "12345.txt").write_text("12345___0___-0.1___3.0___Hello\n")
    touch(tmp_path, *(f"Raw/Audio/Full/WAV_16000/{v}.wav" for v in ("-3g5yACwYnA", "12345")))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train.txt").write_text("-3g5yACwYnA\n")
    corpus = read(tmp_path, "cmu_mosei.yaml")
    facts = {name: (one.label, one.votes, one.text, one.segment, one.split)
             for name, one in by_id(corpus).items()}  # fmt: skip
    assert facts == {
        "-3g5yACwYnA_0": ("hap", (("hap", "fea"),), "Key", (4.8, 13.4), "train"),
        "-3g5yACwYnA_1": ("xxx", (("sad", "ang"),), "A lot ___ of it", (13.4, 20.0), "train"),
        "12345_0": ("neu", (), "Hello", (0.0, 3.0), None),
    }
    assert any("1 segments have no length" in note for note in corpus.notes)
    assert any("there is no splits/val.txt" in note for note in corpus.notes)
