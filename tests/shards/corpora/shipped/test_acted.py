"""Corpora whose file names tell the label, each on a few names with the traps of its release."""

import pytest
from table_specs import by_id, read, touch

from shards.corpora.base import CorpusError

# spec, file names, and of some turns: id -> label, speaker
CASES = {
    "savee.yaml": (
        ["DC/a01.wav", "DC/sa01.WAV", "JE/su15.wav", "KL/n30.wav"],
        {"DC_a01": ("ang", "DC"), "DC_sa01": ("sad", "DC"), "JE_su15": ("sur", "JE"),
         "KL_n30": ("neu", "KL")},
    ),
    "tess.yaml": (
        ["OAF_angry/OAF_back_angry.wav", "OAF_neutral/OA_bite_neutral.wav",
         "YAF_pleasant_surprised/YAF_dog_ps.wav",
         "TESS copy/OAF_angry/OAF_back_angry.wav"],  # the inner copy is not read
        {"OAF_back_angry": ("ang", "OAF"), "OA_bite_neutral": ("neu", "OAF"),
         "YAF_dog_ps": ("pleasant surprise", "YAF")},
    ),
    "emovo.yaml": (
        ["f1/dis-f1-b1.wav", "m3/rab-m3-n5.wav", "f1/notes.pdf", "m3/gio-m3-d2.wav"],
        {"dis-f1-b1": ("dis", "f1"), "rab-m3-n5": ("ang", "m3"), "gio-m3-d2": ("hap", "m3")},
    ),
    "cafe.yaml": (
        ["Colère/Faible/01-C-1-1.wav", "De\u0301gou\u0302t/Fort/12-D-2-6.aiff",
         "Peur/02-P-1-3.WAV"],
        {"01-C-1-1": ("ang", "01"), "12-D-2-6": ("dis", "12"), "02-P-1-3": ("fea", "02")},
    ),
    "aesdd.yaml": (
        ["anger/a03 (3).wav", "sadness/s05 (3).wav", "sadness/s05 (4).wav"],
        {"a03 (3)": ("ang", "3"), "s05 (4)": ("sad", "4")},  # one cannot be read
    ),
    "enterface05.yaml": (
        ["enterface database/subject 1/anger/sentence 1/s1_an_1.avi",
         "enterface database/subject 6/disgust/s6_di_1.avi",
         "enterface database/subject 11/surprise/sentence 2/s12_su_2.avi",
         "enterface database/subject 16/surprise/sentence 3/s16_su_3avi.avi"],
        {"enterface database/subject 6/disgust/s6_di_1": ("dis", "6"),
         "enterface database/subject 11/surprise/sentence 2/s12_su_2": ("sur", "11"),
         "enterface database/subject 16/surprise/sentence 3/s16_su_3avi": ("sur", "16")},
    ),
    "asvp_esd.yaml": (
        ["actor_12/03-01-06-01-01-12-02-01-16.wav", "actor_5/03-02-11-02-01-05-02-03.wav",
         "actor_5/03-01-17-01-01-05-02-01-20.wav", "actor_5/03-01-02-01-01-05.wav"],
        {"actor_12/03-01-06-01-01-12-02-01-16": ("fea", "12"),
         "actor_5/03-02-11-02-01-05-02-03": ("pain", "05"),
         "actor_5/03-01-17-01-01-05-02-01-20": ("xxx", "05"),
         "actor_5/03-01-02-01-01-05": ("neu", "05")},
    ),
    "urdu.yaml": (
        ["Angry/SM1_F10_A010.wav", "Happy/SF12_F2_H02.wav"],
        {"SM1_F10_A010": ("ang", "SM1"), "SF12_F2_H02": ("hap", "SF12")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("spec", CASES)
def test_names_tell_label_and_speaker(tmp_path, spec):
    names, expected = CASES[spec]
    touch(tmp_path, *names)
    corpus = read(tmp_path, spec)
    found = {name: (one.label, one.speaker) for name, one in by_id(corpus).items()}
    assert expected.items() <= found.items()
    assert any("the counts differ from those of" in note for note in corpus.notes)


def test_names_that_are_none_are_refused(tmp_path):
    touch(tmp_path, "DC/s01.wav")
    with pytest.raises(CorpusError, match="does not fit the pattern"):
        read(tmp_path, "savee.yaml")


def test_a_whole_release_is_recognised(tmp_path):
    numbers = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    for speaker in ("DC", "JE", "JK", "KL"):
        for letter, count in numbers.items():
            touch(tmp_path, *(f"{speaker}_{letter}{n:02d}.wav" for n in range(1, count + 1)))
    assert "every count equals that of the known release" in read(tmp_path, "savee.yaml").notes


def test_tess_says_its_words(tmp_path):
    touch(tmp_path, "OAF_angry/OAF_back_angry.wav")
    [one] = read(tmp_path, "tess.yaml").utterances
    assert one.text == "Say the word back."


def test_shemo(tmp_path):
    touch(tmp_path, "female/F03S02.wav", "female/F21F05.wav", "male/M11W10.wav")
    for name, text in (("F03S02", "\ufeff\u202bسلام"), ("M11W10", "بله\u202c\n")):
        path = tmp_path / f"transcript/{name}.ort"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    corpus = read(tmp_path, "shemo.yaml", max_problems=1)
    assert {n: (one.label, one.text) for n, one in by_id(corpus).items()} == {
        "F03S02": ("sad", "سلام"), "M11W10": ("sur", "بله"),
    }  # fmt: skip
    assert [one.where for one in corpus.problems] == ["F21F05"]
    without = by_id(read(tmp_path, "shemo.yaml", modalities=["audio"]))
    assert (without["F21F05"].label, without["F21F05"].speaker) == ("fea", "F21")


def test_nemo_has_padded_speakers_and_no_quotes(tmp_path):
    touch(tmp_path, "samples/WR0_surprised_64.wav", "samples/KS0_sadness_1.wav")
    (tmp_path / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
        'WR0_surprised_64.wav\tsurprised\t"Naprawdę?\tnaprawdę\t        WR0\tfemale\t25\n'
        "KS0_sadness_1.wav\tsadness\tNie.\tnie\t        KS0\tmale\t30\n",
        encoding="utf-8",
    )
    one = by_id(read(tmp_path, "nemo.yaml"))["WR0_surprised_64.wav"]
    assert (one.label, one.speaker, one.text) == ("sur", "WR0", '"Naprawdę?')


def test_jl_has_brackets_in_its_path(tmp_path):
    folder = tmp_path / "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"
    touch(folder, "male1_angry_10a_1.wav", "female2_encouraging_3b_2.wav")
    (folder / "male1_angry_10a_1.txt").write_text("Jack views an art piece\n")
    (folder / "female2_encouraging_3b_2.txt").write_text("Linda asks for more\n")
    found = by_id(read(tmp_path, "jl.yaml"))
    one = found["male1_angry_10a_1"]
    assert (one.label, one.speaker, one.text) == ("ang", "male1", "Jack views an art piece")
    assert found["female2_encouraging_3b_2"].label == "encouraging"


def test_esd_transcripts_are_in_many_encodings(tmp_path):
    touch(tmp_path, "0001/Angry/0001_000351.wav", "0003/Happy/train/0003_000702.wav",
          "0017/Sad/evaluation/0017_001051.wav", "0011/Surprise/test/0011_001401.wav")  # fmt: skip
    texts = {
        "0001": ("0001_000351\t打远一看\t生气\nbroken line\n", "gb2312"),
        "0003": ("0003_000702\t他们的步法\t快乐\n", "utf-16"),
        "0017": ("0017_001051\tThe nine – the eggs.\tSad\n", "cp1252"),
        "0011": ("0011_001401\tI’ll keep.\tSurprise\n", "utf-8"),
    }
    for speaker, (text, encoding) in texts.items():
        (tmp_path / speaker / f"{speaker}.txt").write_bytes(text.encode(encoding))
    corpus = read(tmp_path, "esd.yaml")
    facts = {n: (one.label, one.speaker, one.split, one.text) for n, one in by_id(corpus).items()}
    assert facts == {
        "0001_000351": ("ang", "0001", None, "打远一看"),
        "0003_000702": ("hap", "0003", "train", "他们的步法"),
        "0017_001051": ("sad", "0017", "val", "The nine – the eggs."),
        "0011_001401": ("sur", "0011", "test", "I’ll keep."),
    }
    assert any("1 lines of" in note and "0001.txt" in note for note in corpus.notes)


def test_crema_d_by_its_raters(tmp_path):
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_LO.wav")
    folder = tmp_path / "processedResults"
    folder.mkdir()
    (folder / "summaryTable.csv").write_text(
        '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote",'
        '"MultiModalLevel"\n'
        '"1","1001_DFA_ANG_XX","A","60","A","70","A","65"\n'
        '"2","1002_IEO_HAP_LO","H:N","55:60","H","50","H","50"\n'
        '"3","1076_MTI_SAD_XX","N","50","S","50","S","50"\n'
    )
    (folder / "tabulatedVotes.csv").write_text(
        '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
        '"100001",2,0,0,0,1,0,"1001_DFA_ANG_XX",3,0.6,"A"\n'
        '"200001",9,0,0,0,0,0,"1001_DFA_ANG_XX",9,1,"A"\n'
        '"100002",0,0,0,1,1,0,"1002_IEO_HAP_LO",2,0.5,"H:N"\n'
        '"100003",0,0,0,0,1,0,"1076_MTI_SAD_XX",1,1,"N"\n'
    )
    corpus = read(tmp_path, "crema_d_voice.yaml")
    angry, tied = corpus.utterances
    assert (angry.label, angry.votes) == ("ang", (("ang",), ("ang",), ("neu",)))
    assert (tied.label, tied.votes) == ("xxx", (("hap",), ("neu",)))
    assert tied.text == "It's eleven o'clock."
    assert any("1076_MTI_SAD_XX: silent" in note for note in corpus.notes)
