"""The same recording under several names: told, and on one side of every split that is ours."""

import numpy as np
import pytest

from shards.corpora.utterance import Utterance
from shards.views.leakage import check_rows
from shards.views.turns import ViewError, turns_of
from shards.views.view import ViewConfig, make_view

PARTS = ("train", "val", "test")
PROTOCOLS = (
    {"protocol": "random"},
    {"protocol": "random_dialogues"},
    {"protocol": "leave_one_session_out", "fold": "1"},
    {"protocol": "leave_one_speaker_out", "fold": "s1"},
    {"protocol": "script_disjoint"},
)
OFFICIAL = {"protocol": "official"}


def columns(turns=400, recordings=None):
    """An index of clean rows: five sessions of two speakers, dialogues of eight turns."""
    rng = np.random.default_rng(3)
    dialogues = [number // 8 for number in range(turns)]
    return {
        "utterance": [f"u{number:04d}" for number in range(turns)],
        "variant": ["clean"] * turns,
        "label": [str(code) for code in rng.choice(("ang", "hap", "neu", "sad"), turns)],
        "speaker": [f"s{2 * (dialogue % 5) + n % 2}" for n, dialogue in enumerate(dialogues)],
        "session": [str(dialogue % 5) for dialogue in dialogues],
        "dialogue": [f"d{dialogue:02d}" for dialogue in dialogues],
        "split": ["test" if dialogue % 5 == 4 else "train" for dialogue in dialogues],
        "text": [f"line {number}" for number in range(turns)],
        "turn": [number % 8 for number in range(turns)],
        "recording": recordings,
    }


def apart(turns=400):
    return [f"{number:064x}" for number in range(turns)]


def copied(turns=400):
    """Every tenth turn is the sound of the next dialogue's first: other session, other speaker."""
    names = apart(turns)
    return [
        names[(n // 8 + 1) * 8 % turns] if n % 10 == 0 else name for n, name in enumerate(names)
    ]


@pytest.mark.parametrize("options", [*PROTOCOLS, OFFICIAL])
def test_recordings_that_differ_change_no_view(options):
    unknown = {name: values for name, values in columns().items() if name != "recording"}
    before = make_view(unknown, ViewConfig(**options, labels="four"))
    nulls = make_view(columns(recordings=[None] * 400), ViewConfig(**options, labels="four"))
    known = make_view(columns(recordings=apart()), ViewConfig(**options, labels="four"))
    assert known.digest == nulls.digest == before.digest
    assert known.notes == nulls.notes == before.notes
    assert nulls.overlap == before.overlap
    assert "recording" not in before.overlap["train-test"]
    for pair, facts in known.overlap.items():
        assert facts.pop("recording") == {"turns": 0, "share": 0}
        assert facts == before.overlap[pair]


@pytest.mark.parametrize("options", PROTOCOLS)
def test_the_same_recording_stands_on_one_side(options):
    names = copied()
    before = make_view(columns(recordings=apart()), ViewConfig(**options, labels="four"))
    view = make_view(columns(recordings=names), ViewConfig(**options, labels="four"))
    sides = {}
    for part in PARTS:
        assert set(view.rows(part)) <= set(before.rows(part))
        for row in view.rows(part):
            assert sides.setdefault(names[row], part) == part
    gone = sum(len(before.rows(part)) - len(view.rows(part)) for part in PARTS)
    assert gone > 0
    told = [note for note in view.notes if "same recording" in note]
    assert len(told) == 1
    assert sum(int(word) for word in told[0].replace(",", "").split() if word.isdigit()) == gone
    assert all(facts["recording"]["turns"] == 0 for facts in view.overlap.values())


def test_a_corpus_own_split_stays_and_its_overlap_is_stated():
    names = copied()
    before = make_view(columns(recordings=apart()), ViewConfig(**OFFICIAL, labels="four"))
    view = make_view(columns(recordings=names), ViewConfig(**OFFICIAL, labels="four"))
    assert view.digest == before.digest
    heard = {names[row] for row in view.train}
    count = sum(names[row] in heard for row in view.test)
    assert count > 0
    share = count / len(view.test)
    assert view.overlap["train-test"]["recording"] == {"turns": count, "share": share}


def test_most_of_a_recordings_turns_decide_where_it_stays():
    names = apart()
    view = make_view(columns(recordings=names), ViewConfig(labels="four"))
    for row in (view.train[0], view.test[0], view.test[1]):
        names[row] = "the same"
    drawn = make_view(columns(recordings=names), ViewConfig(labels="four"))
    assert np.array_equal(drawn.test, view.test)
    assert np.array_equal(drawn.train, view.train[1:])
    assert "1 train, 0 val, 0 test" in drawn.notes[-1]


def test_rows_that_share_a_recording_are_refused():
    names = apart()
    view = make_view(columns(recordings=names), ViewConfig(labels="four"))
    names[view.test[0]] = names[view.train[0]]
    rows = {part: view.rows(part) for part in PARTS}
    with pytest.raises(ViewError, match="1 turns of the test part share their recording"):
        check_rows(turns_of(columns(recordings=names)), view.labels, rows, view.config)


def test_a_reader_knows_no_sounds_and_gives_the_view_of_an_index_without_copies():
    index = columns(recordings=apart())
    facts = ("label", "speaker", "session", "dialogue", "split", "text", "turn")
    found = [
        Utterance(id=name, audio=None, votes=(), **{fact: index[fact][n] for fact in facts})
        for n, name in enumerate(index["utterance"])
    ]
    read = make_view(found, ViewConfig(labels="four"))
    assert read.digest == make_view(index, ViewConfig(labels="four")).digest
    assert "recording" not in read.overlap["train-test"]
