import time

import pytest

from shards.configfile import ConfigError, parse
from shards.corpora.base import Corpus, CorpusError, Errors
from shards.corpora.iemocap.files import parse_labels
from shards.corpora.iemocap.reader import IemocapConfig
from shards.corpora.iemocap.release import COUNTS, DIALOGUES
from shards.corpora.read import read_corpus


def read(release, **settings) -> Corpus:
    return read_corpus(IemocapConfig(root=release.root, **settings))


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances}


def test_a_turn_is_read_whole(release, turn):
    path = release.dialogue(
        "Ses01F_impro01",
        [turn("Ses01F_impro01_F000", "neu", 6.2901, 8.2357, text="Excuse me. [LAUGHTER]")],
    )
    (utterance,) = read(release).utterances
    assert utterance.text == "Excuse me. [LAUGHTER]"
    wave = release.root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert utterance.audio == wave
    assert (utterance.label, utterance.votes) == ("neu", (("neu",), ("neu",), ("neu",)))
    assert (utterance.start, utterance.end) == (6.2901, 8.2357)
    assert (utterance.session, utterance.dialogue, utterance.turn) == ("1", "Ses01F_impro01", 0)
    assert utterance.split is None
    assert utterance.source == f"{path}:3"


def test_the_speaker_is_the_last_letter_not_the_marker_wearer(release, turn):
    release.dialogue(
        "Ses01F_impro01", [turn("Ses01F_impro01_F000"), turn("Ses01F_impro01_M003", start=2)]
    )
    release.dialogue("Ses01M_impro01", [turn("Ses01M_impro01_M000")])
    speakers = {name: item.speaker for name, item in by_id(read(release)).items()}
    assert speakers == {
        "Ses01F_impro01_F000": "Ses01F",
        "Ses01F_impro01_M003": "Ses01M",
        "Ses01M_impro01_M000": "Ses01M",
    }


def test_names_that_break_fixed_columns(release, turn):
    names = ["Ses03M_impro05a", "Ses03M_impro05b", "Ses03M_impro08a", "Ses03M_impro08b"]
    names += ["Ses05M_script01_1", "Ses05M_script01_1b"]
    for name in names:
        release.dialogue(name, [turn(f"{name}_F000", text=f"This is {name}.")])
    found = by_id(read(release))
    assert len(found) == len(names)
    for name in names:
        utterance = found[f"{name}_F000"]
        assert utterance.dialogue == name
        assert utterance.speaker == f"{name[:5]}F"
        assert utterance.text == f"This is {name}."
        assert utterance.audio.parent.name == name


def test_only_outside_annotators_vote(release, turn):
    votes = ["Neutral; Frustration;\t()", "Excited;\t(a; b; (c))", "Neutral state; Neutral;\t()"]
    extra = ["C-F1:\tAnger; Sadness;\t()", "C-M1:\tGlee;\t()", "A-M1:\tval 3; act ; dom  1;\t()"]
    release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000", votes=votes, extra=extra)])
    corpus = read(release)
    assert corpus.utterances[0].votes == (("neu", "fru"), ("exc",), ("neu",))
    assert "1 votes name more than one category" in corpus.notes


def test_every_category_word_is_known(release, turn):
    words = ["Anger", "Happiness", "Excited", "Sadness", "Neutral", "Frustration"]
    words += ["Surprise", "Fear", "Disgust", "Other"]
    votes = [f"{word};\t()" for word in [*words, "Neutral state"]]
    release.dialogue(
        "Ses01F_impro01",
        [
            turn(f"Ses01F_impro01_F{n:03d}", code, n + 1.0, n + 1.5, votes[n % 9 : n % 9 + 3])
            for n, code in enumerate(COUNTS)
        ],
    )
    corpus = read(release)
    assert [utterance.label for utterance in corpus.utterances] == list(COUNTS)
    named = {code for utterance in corpus.utterances for vote in utterance.votes for code in vote}
    assert named == set(COUNTS) - {"xxx"}


def test_blocks_of_any_length_crlf_and_foreign_bytes(release, turn):
    release.line_end = "\r\n"
    path = release.dialogue(
        "Ses02F_script03_2",
        [
            turn("Ses02F_script03_2_F000", extra=()),
            turn("Ses02F_script03_2_F001", start=1.5, extra=["A-E3:\tval 3;\t()"] * 6),
        ],
    )
    path.write_bytes(path.read_bytes().replace(b"val 3;\t()", b"val 3;\t(na\xefve)", 1))
    found = read(release).utterances
    assert [utterance.turn for utterance in found] == [0, 1]
    assert all(len(utterance.votes) == 3 for utterance in found)
    assert not any(utterance.text.endswith("\r") for utterance in found)


def test_turns_count_in_time_order_over_all_labelled_turns(release, turn):
    release.dialogue(
        "Ses01F_impro01",
        [
            turn("Ses01F_impro01_F001", start=30.0, end=31.0),
            turn("Ses01F_impro01_M000", "xxx", start=9.5, end=12.0),
            turn("Ses01F_impro01_F000", start=100.25, end=101.0, text=None),
            turn("Ses01F_impro01_F002", start=200.0, end=201.0),
        ],
    )
    found = by_id(read(release, max_problems=1))
    assert found["Ses01F_impro01_M000"].turn == 0
    assert found["Ses01F_impro01_F001"].turn == 1
    assert found["Ses01F_impro01_F002"].turn == 3  # the one left out keeps its number


def test_valence_activation_dominance_are_not_clipped(release, turn):
    path = release.dialogue(
        "Ses01F_impro01", [turn("Ses01F_impro01_F000", vad="[5.5000, 2.3333, 0.5000]")]
    )
    errors = Errors()
    (labelled,) = parse_labels(path, errors)
    assert labelled.vad == (5.5, 2.3333, 0.5)
    assert not errors.lines


def test_only_top_level_label_files_are_read(release, turn):
    path = release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")])
    for inner in ("Categorical", "Attribute", "Self-evaluation"):
        (path.parent / inner).mkdir()
        (path.parent / inner / "Ses01F_impro01_e2_cat.txt").write_text(
            "Ses01F_impro01_F000 :Neutral;"
        )
    (path.parent / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    (path.parent / "Evaluator").mkdir()
    (path.parent / "Ses01F_impro01.anvil").write_text("other")
    assert len(read(release).utterances) == 1


def test_transcript_lines_without_label_are_passed_over(release, turn):
    path = release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")])
    transcript = path.parents[1] / "transcriptions" / path.name
    with transcript.open("a") as file:
        file.write("Ses01F_impro01_FXX0 [010.0000-011.0000]: Hm.\nM: [LAUGHTER]\n")
    (utterance,) = read(release).utterances
    assert utterance.text == "Excuse me."


def test_turns_without_audio_or_transcript_are_counted_listed_and_bounded(release, turn):
    path = release.dialogue(
        "Ses01F_impro01",
        [
            turn("Ses01F_impro01_F000"),
            turn("Ses01F_impro01_F001", start=2.0, audio=False),
            turn("Ses01F_impro01_F002", start=2.1, text=None),
        ],
    )
    other = release.dialogue("Ses01F_impro02", [turn("Ses01F_impro02_F000")])
    (other.parents[1] / "transcriptions" / other.name).unlink()
    corpus = read(release, max_problems=3)
    assert [utterance.id for utterance in corpus.utterances] == ["Ses01F_impro01_F000"]
    assert [(problem.kind, problem.where) for problem in corpus.problems] == [
        ("missing audio", "Ses01F_impro01_F001"),
        ("missing transcript", "Ses01F_impro01_F002"),
        ("missing transcript", "Ses01F_impro02_F000"),
    ]
    assert str(path.name) in corpus.problems[1].what
    assert any(
        "3 turns left out (missing audio: 1, missing transcript: 2)" in n for n in corpus.notes
    )
    with pytest.raises(
        CorpusError, match=r"max_problems=2(?s:.*)F001(?s:.*)corpus\.max_problems=3"
    ):
        read(release, max_problems=2)


def test_one_modality_needs_only_its_own_files(release, turn):
    path = release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000", audio=False)])
    (utterance,) = read(release, modalities=["text"]).utterances
    assert (utterance.audio, utterance.text) == (None, "Excuse me.")
    (path.parents[1] / "transcriptions" / path.name).unlink()
    (path.parents[1] / "transcriptions").rmdir()
    wave = release.root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    wave.write_bytes(b"RIFF")
    (utterance,) = read(release, modalities=["audio"]).utterances
    assert (utterance.audio, utterance.text) == (wave, None)
    with pytest.raises(CorpusError, match=r"lacks .*transcriptions.*corpus\.modalities"):
        read(release)


def test_every_error_is_listed_with_file_line_value_and_remedy(release, turn):
    path = release.dialogue(
        "Ses01F_impro01",
        [
            turn("Ses01F_impro01_F000", votes=["Neutral;\t()", "Joyful;\t()", "Anger;\t()"]),
            turn("Ses01F_impro01_F001", "hpy", start=2.0),
            turn("Ses01F_impro09_F002", start=2.1),
            turn("Ses01F_impro01_F003", start=9.0),
        ],
    )
    lines = path.read_text().split("\n")
    lines[2] = lines[2].replace("1.0000 - 2.5000", "1.0000 - 2.5O00")
    path.write_text("\n".join([*lines, "C-E2:\tNeutral;\t()", ""]))
    with pytest.raises(CorpusError) as caught:
        read(release)
    message = str(caught.value)
    assert message.startswith(f"5 errors in the corpus {release.root}")
    assert f"{path}:3: '[1.0000 - 2.5O00]" in message
    assert "[start - end] turn code [valence, activation, dominance]" in message
    assert "unknown category 'Joyful'" not in message  # its turn could not be read at all
    assert f"{path}:10: Ses01F_impro01_F001: unknown emotion code 'hpy'; known: ang," in message
    assert "'Ses01F_impro09_F002' is no turn of Ses01F_impro01" in message
    assert "Ses01F_impro01_F003 ends at 2.5000 s, not after its start" in message
    assert "'C-E2:\\tNeutral;\\t()' follows no label line" in message
    assert message.count("restore the file from the release") == 5


def test_unknown_words_and_missing_votes(release, turn):
    path = release.dialogue(
        "Ses01F_impro01",
        [
            turn("Ses01F_impro01_F000", votes=["Neutral;\t()", "Joyful; Anger;\t()", ";\t()"]),
            turn("Ses01F_impro01_F001", start=2.0),
        ],
    )
    text = path.read_text()
    head, _, tail = text.partition("F001")
    tail = "\n".join(line for line in tail.split("\n") if not line.startswith("C-E"))
    path.write_text(f"{head}F001{tail}")
    with pytest.raises(CorpusError) as caught:
        read(release)
    message = str(caught.value)
    assert f"{path}:5: unknown category 'Joyful'; known: Anger, Happiness" in message
    assert f"{path}:6: the annotator names no category" in message
    assert "Ses01F_impro01_F001 has no C-E line" in message


def test_many_errors_are_capped(release, turn):
    turns = [turn(f"Ses01F_impro01_F{n:03d}", "bad", n + 1.0, n + 2.0) for n in range(50)]
    release.dialogue("Ses01F_impro01", turns)
    with pytest.raises(CorpusError, match=r"50 errors(?s:.*)… and 30 more$"):
        read(release)


def test_a_turn_may_not_be_labelled_twice(release, turn):
    path = release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")] * 2)
    with pytest.raises(CorpusError, match=f"labelled before, at {path}:3"):
        read(release)


def test_a_dialogue_belongs_into_its_session(release, turn):
    path = release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")])
    path.rename(path.with_name("Ses02F_impro01.txt"))
    with pytest.raises(CorpusError, match="not the name of a dialogue of session 1"):
        read(release)


def test_missing_folders_say_what_was_looked_for(release, turn, tmp_path):
    with pytest.raises(CorpusError, match=r"no corpus folder .*Session1 … Session5, each with"):
        read(release)
    release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")])
    with pytest.raises(CorpusError, match=f"did you mean corpus.root={release.root}"):
        read_corpus(IemocapConfig(root=tmp_path))
    (release.root / "Session2").mkdir()
    with pytest.raises(CorpusError, match="Session2/dialog/EmoEvaluation"):
        read(release)


def test_the_configuration_is_strict():
    with pytest.raises(ConfigError, match="did you mean 'root'"):
        parse(IemocapConfig, {"reader": "iemocap", "rooot": "x", "root": "y"}, "test")


def write_full_release(release, turn):
    """All 151 dialogues and 10,039 turns, with the published counts."""
    for index, (session, names) in enumerate(DIALOGUES.items()):
        codes = [code for code, counts in COUNTS.items() for _ in range(counts[index])]
        names = sorted(names)
        for number, name in enumerate(names):
            release.dialogue(
                name,
                [
                    turn(f"{name}_{'FM'[n % 2]}{n:03d}", code, n + 1.0, n + 1.75)
                    for n, code in enumerate(codes[number :: len(names)])
                ],
            )
        assert session == names[0][4]


def test_a_full_release_is_compared_with_the_published_counts(release, turn):
    assert [len(names) for names in DIALOGUES.values()] == [28, 30, 32, 30, 31]
    write_full_release(release, turn)
    started = time.process_time()
    corpus = read(release)
    seconds = time.process_time() - started
    assert seconds < 3  # about half a second on an idle core
    assert len(corpus.utterances) == 10039
    text = "\n".join(corpus.notes)
    assert "10039 labelled turns" in text
    assert "in 151 dialogues of 5 sessions" in text
    assert "four classes 5531 (1085/1023/1151/1031/1241)" in text
    assert "five classes 7380" in text
    assert corpus.notes[-1].startswith("full release: every count by class and session equals")
    assert not corpus.problems

    path = release.root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    path.write_text(path.read_text().replace("\tang\t", "\tfru\t", 1))
    notes = read(release).notes
    warnings = [note for note in notes if note.startswith("WARNING")]
    assert warnings == [
        "WARNING: session 2, anger (ang): 136 turns, but the published release has 137",
        "WARNING: session 2, frustration (fru): 326 turns, but the published release has 325",
        "WARNING: restore the files named above from the release",
    ]

    path.unlink()
    notes = "\n".join(read(release).notes)
    assert "session 2 lacks 1 of the release's 30 dialogues: Ses02F_impro01" in notes


def test_the_published_counts_add_up():
    totals = {code: sum(counts) for code, counts in COUNTS.items()}
    assert totals.pop("xxx") == 2507
    assert list(totals.values()) == [1103, 595, 1041, 1084, 1708, 1849, 107, 40, 2, 3]
    sessions = [sum(column) for column in zip(*COUNTS.values(), strict=True)]
    assert sessions == [1819, 1811, 2136, 2103, 2170]
    four = zip(*(COUNTS[code] for code in ("ang", "hap", "exc", "sad", "neu")), strict=True)
    assert [sum(column) for column in four] == [1085, 1023, 1151, 1031, 1241]


def test_another_corpus_in_this_layout_is_not_compared(release, turn):
    release.dialogue("Ses01F_impro99", [turn("Ses01F_impro99_F000")])
    assert "not the IEMOCAP release (Ses01F_impro99 is none of" in read(release).notes[-1]


def test_a_made_corpus_has_its_truth(release, turn):
    release.dialogue("Ses01F_impro01", [turn("Ses01F_impro01_F000")])
    assert read(release).truth is None
    (release.root / "truth.jsonl").write_text("{}\n")
    corpus = read(release)
    assert corpus.truth == release.root / "truth.jsonl"
    assert not any(note.startswith("WARNING") for note in corpus.notes)
