"""Protocols by speaker: none on two sides, folds alike in every class, validation on others."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_turns import FOUND, INDEX, PARTS, column

from shards.configfile import ConfigError, parse
from shards.corpora.labels import label_set
from shards.corpora.utterance import Utterance
from shards.views.protocols.groups import deal_speakers
from shards.views.turns import turns_of
from shards.views.view import ViewConfig, ViewError, folds, make_view

KEPT = sorted(u.id for u in FOUND if u.label not in ("xxx", "sur"))


def speakers(view, part, found=FOUND):
    return {found[row].speaker for row in view.rows(part)}


def turn(number, speaker, label):
    return Utterance(
        id=f"t{number:05d}",
        audio=None,
        text=None,
        label=label,
        votes=(),
        speaker=speaker,
        session="1",
        dialogue=f"d{number}",
        turn=0,
    )


def acted(sizes, classes=("ang", "hap", "neu", "sad"), per_class=8):
    """A corpus of actors who each say every class; `sizes` multiplies an actor's turns."""
    found = []
    for name, times in sizes.items():
        for code in classes:
            for _ in range(per_class * times):
                found.append(turn(len(found), name, code))
    return found


def test_speakers_by_shares_are_on_one_side_each():
    view = make_view(INDEX, ViewConfig(protocol="speakers", test=0.2, val=0.2))
    own = [set(column(view, part, "speaker")) for part in PARTS]
    assert [len(one) for one in own] == [6, 2, 2]
    assert len(set.union(*own)) == 10
    assert view.overlap["train-test"]["speaker"]["turns"] == 0
    assert view.name == "speakers, test 20 %, validation 20 %, seed 1"


def test_speakers_by_name():
    named = ("Ses03F", "Ses03M")
    view = make_view(FOUND, ViewConfig(protocol="speakers", test_speakers=named))
    assert speakers(view, "test") == set(named)
    assert len(speakers(view, "val")) == 2
    config = ViewConfig(protocol="speakers", test_speakers=named, val_speakers=("Ses01F",))
    view = make_view(FOUND, config)
    assert speakers(view, "val") == {"Ses01F"}
    assert view.name == "speakers, test speakers Ses03F, Ses03M, validation speakers Ses01F, seed 1"
    with pytest.raises(ViewError, match=r"names no speaker .*'Ses3F': did you mean 'Ses03F'"):
        make_view(FOUND, ViewConfig(protocol="speakers", test_speakers=("Ses3F",)))


def test_speaker_folds_test_each_turn_once_on_unknown_speakers():
    config = ViewConfig(protocol="speaker_folds", folds=5)
    assert folds(INDEX, config) == ["1", "2", "3", "4", "5"]
    tested, groups = [], []
    for fold in folds(INDEX, config):
        view = make_view(FOUND, config.model_copy(update={"fold": fold}))
        tested += [FOUND[row].id for row in view.test]
        groups.append(speakers(view, "test"))
        assert not speakers(view, "train") & (groups[-1] | speakers(view, "val"))
        assert view.name == f"speaker_folds {fold} of 5, seed 1"
    assert sorted(tested) == KEPT
    assert [len(group) for group in groups] == [2] * 5
    view = make_view(FOUND, config.model_copy(update={"fold": "5"}))
    assert speakers(view, "val") == groups[0]  # the next, in cyclic order


def test_equal_actors_are_dealt_into_equal_groups():
    found = acted({f"{n:02d}": 1 for n in range(1, 25)})
    for seed in range(3):
        config = ViewConfig(protocol="speaker_folds", folds=6, seed=seed, labels="four")
        sizes = [
            len(speakers(make_view(found, config.model_copy(update={"fold": f})), "test", found))
            for f in folds(found, config)
        ]
        assert sizes == [4] * 6


@given(st.integers(0, 10_000), st.integers(6, 40), st.integers(3, 6))
@settings(max_examples=40, deadline=None)
def test_folds_are_as_alike_as_large_speakers_allow(seed, count, k):
    random = np.random.default_rng(seed)
    found = []
    for name in range(count):
        taste = random.dirichlet(np.full(4, 3.0))
        for code in random.choice(("ang", "hap", "neu", "sad"), random.integers(5, 80), p=taste):
            found.append(turn(len(found), f"s{name}", str(code)))
    largest = max(
        sum(u.speaker == f"s{n}" and u.label == code for u in found)
        for n in range(count)
        for code in ("ang", "hap", "neu", "sad")
    )
    config = ViewConfig(protocol="speaker_folds", folds=k, seed=seed, labels="four")
    turns, four = turns_of(found), label_set("four")
    labels = np.array([four.class_of(code) for code in turns.label])
    fold_of = deal_speakers(turns, labels, four, config)
    tables = np.zeros((k, 4))
    np.add.at(tables, (fold_of, labels), 1)
    assert (abs(tables - tables.mean(axis=0)) <= 2 * largest).all()
    assert (tables.sum(axis=1) > 0).all()
    assert len(set(zip(turns.speaker, fold_of, strict=True))) == count  # one fold each


def test_more_folds_than_speakers_are_refused():
    with pytest.raises(ViewError, match=r"10 speakers into 11 folds: set data.view.folds to 10"):
        make_view(FOUND, ViewConfig(protocol="speaker_folds", folds=11, fold="1"))
    with pytest.raises(ViewError, match="leaves none for validation"):
        make_view(FOUND, ViewConfig(protocol="speaker_folds", folds=2, fold="1"))
    with pytest.raises(ViewError, match="has no fold '6'; the folds are: 1, 2, 3, 4, 5"):
        make_view(FOUND, ViewConfig(protocol="speaker_folds", fold="6"))
    drawn = ViewConfig(protocol="speaker_folds", folds=2, fold="1", val_from_train=0.3)
    assert not speakers(make_view(FOUND, drawn), "val") & speakers(make_view(FOUND, drawn), "train")


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "leave_one_speaker_out", "fold": "Ses01F"},
        {"protocol": "leave_one_session_out", "fold": "Ses01"},
        {"protocol": "speaker_folds", "fold": "1"},
        {"protocol": "official"},
    ],
)
def test_validation_on_whole_other_speakers(options):
    plain = make_view(FOUND, ViewConfig(**options))
    view = make_view(FOUND, ViewConfig(**options, val_speakers=2))
    assert np.array_equal(view.test, plain.test)
    assert len(speakers(view, "val")) == 2
    assert not speakers(view, "val") & (speakers(view, "train") | speakers(view, "test"))
    assert len(set(view.labels[view.val])) == 5  # all classes
    assert "2 other speakers, seed 1" in view.name
    seeds = [
        speakers(make_view(FOUND, ViewConfig(**options, val_speakers=2, seed=seed)), "val")
        for seed in range(6)
    ]
    assert all(len(one) == 2 for one in seeds)
    named = make_view(FOUND, ViewConfig(**options, val_speakers=("Ses03M",)))
    assert speakers(named, "val") == {"Ses03M"}


def test_validation_speakers_that_cannot_be():
    options = {"protocol": "leave_one_speaker_out", "fold": "Ses01F"}
    with pytest.raises(ViewError, match=r"val_speakers=9: .* leaves 9 speakers"):
        make_view(FOUND, ViewConfig(**options, val_speakers=9))
    with pytest.raises(
        ViewError, match=r"names no speaker of the turns that are not test: 'Ses01F"
    ):
        make_view(FOUND, ViewConfig(**options, val_speakers=("Ses01F",)))


def test_a_corpus_official_folds():
    found = [replace(u, split=f"fold{u.session[-1]}") for u in FOUND]
    config = ViewConfig(protocol="official_folds")
    assert folds(found, config) == [f"fold{n}" for n in range(1, 6)]
    view = make_view(found, config.model_copy(update={"fold": "fold5"}))
    assert {found[row].split for row in view.test} == {"fold5"}
    assert {found[row].split for row in view.val} == {"fold1"}
    assert len(view.train) + len(view.val) + len(view.test) == len(KEPT)
    with pytest.raises(ViewError, match="no official folds: its index names test, train"):
        make_view(FOUND, ViewConfig(protocol="official_folds", fold="test"))
    with pytest.raises(
        ViewError, match=r"unknown official split fold1, .*use the protocol official_"
    ):
        make_view(found, ViewConfig(protocol="official"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"val_speakers": 2}, "random does not read val_speakers; speakers, speaker_folds, leave_"),
        ({"protocol": "speakers", "folds": 4}, "speakers does not read folds; speaker_folds does"),
        ({"protocol": "official", "test_speakers": ["a"]}, "does not read test_speakers"),
        (
            {"protocol": "speakers", "test_speakers": ["a"], "val_speakers": ["a"]},
            "a is in test_speakers and in val_speakers",
        ),
        (
            {"protocol": "leave_one_session_out", "val_speakers": 1, "val_from_train": 0.1},
            "not both",
        ),
        ({"protocol": "speaker_folds", "folds": 1}, "folds"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(raw, said):
    with pytest.raises(ConfigError, match=said):
        parse(ViewConfig, raw, "view.yaml")
