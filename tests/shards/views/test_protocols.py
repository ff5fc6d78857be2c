"""Protocols: which turns each of them puts on which side."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from made_turns import FOUND, INDEX, PARTS, column
from sklearn.model_selection import train_test_split

from shards.configfile import ConfigError, parse
from shards.views.turns import normalise_text, script_of
from shards.views.view import ViewConfig, ViewError, folds, make_view


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_random_is_scikit_learns_split_of_turns_sorted_by_id(seed):
    kept = sorted((item for item in FOUND if item.label not in ("xxx", "sur")), key=lambda u: u.id)
    ids = np.array([item.id for item in kept])
    labels = np.array([{"exc": "hap"}.get(item.label, item.label) for item in kept])
    rest, test = train_test_split(
        np.arange(len(ids)), test_size=0.1, stratify=labels, random_state=seed
    )
    for options, size in (
        ({}, round(0.2 * len(ids))),
        ({"val_from_train": 0.2}, 0.2),
    ):
        train, val = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=seed
        )
        view = make_view(INDEX, ViewConfig(seed=seed, **options))
        for part, expected in (("train", train), ("val", val), ("test", test)):
            assert set(column(view, part, "utterance")) == set(ids[expected])


def test_random_mirrors_the_classes():
    view = make_view(FOUND, ViewConfig())
    shares = [
        np.bincount(view.labels[view.rows(p)], minlength=5) / len(view.rows(p)) for p in PARTS
    ]
    assert abs(np.array(shares) - shares[0]).max() < 0.02
    total = sum(len(view.rows(part)) for part in PARTS)
    for part, share in zip(PARTS, (0.7, 0.2, 0.1), strict=True):
        assert len(view.rows(part)) == pytest.approx(share * total, abs=1.5)


def test_random_dialogues_keeps_dialogues_sizes_and_classes():
    digests = set()
    for seed in range(4):
        view = make_view(FOUND, ViewConfig(protocol="random_dialogues", seed=seed))
        total = sum(len(view.rows(part)) for part in PARTS)
        for part, share in zip(PARTS, (0.7, 0.2, 0.1), strict=True):
            assert len(view.rows(part)) / total == pytest.approx(share, abs=0.015)
            assert len(set(view.labels[view.rows(part)])) == 5
        assert view.dialogues("train")  # refused where one is split
        assert view.overlap["train-test"]["dialogue"]["turns"] == 0
        digests.add(view.digest)
    assert len(digests) == 4


def test_leave_one_session_out_tests_each_turn_once_on_unknown_speakers():
    config = ViewConfig(protocol="leave_one_session_out")
    sessions = folds(INDEX, config)
    assert sessions == ["Ses01", "Ses02", "Ses03", "Ses04", "Ses05"]
    tested = []
    for fold, following in zip(sessions, sessions[1:] + sessions[:1], strict=True):
        view = make_view(INDEX, config.model_copy(update={"fold": fold}))
        assert set(column(view, "test", "session")) == {fold}
        assert set(column(view, "val", "session")) == {following}
        assert view.overlap["train-test"]["speaker"]["turns"] == 0
        assert view.overlap["train-val"]["speaker"]["turns"] == 0
        assert view.dialogues("train")  # refused where one is split
        tested += list(column(view, "test", "utterance"))
    assert sorted(tested) == sorted(u.id for u in FOUND if u.label not in ("xxx", "sur"))


def test_leave_one_session_out_can_validate_on_dialogues_of_the_training_sessions():
    options = {"protocol": "leave_one_session_out", "fold": "Ses03", "val_from_train": 0.2}
    view = make_view(FOUND, ViewConfig(**options))
    assert len(view.val) / (len(view.val) + len(view.train)) == pytest.approx(0.2, abs=0.02)
    assert view.overlap["train-test"]["speaker"]["turns"] == 0
    assert view.overlap["train-val"]["speaker"]["turns"] > 0
    assert view.overlap["train-val"]["dialogue"]["turns"] == 0


def test_leave_one_speaker_out_validates_on_the_other_speaker_of_the_session():
    config = ViewConfig(protocol="leave_one_speaker_out", fold="Ses04M")
    assert len(folds(INDEX, config)) == 10
    view = make_view(INDEX, config)
    assert set(column(view, "test", "speaker")) == {"Ses04M"}
    assert set(column(view, "val", "speaker")) == {"Ses04F"}
    assert len(set(column(view, "train", "speaker"))) == 8


def test_leave_one_speaker_out_where_sessions_have_one_speaker_or_all():
    for session in (lambda u: "only", lambda u: u.speaker):
        found = [replace(u, session=session(u)) for u in FOUND]
        view = make_view(found, ViewConfig(protocol="leave_one_speaker_out", fold="Ses05M"))
        speakers = {p: {found[row].speaker for row in view.rows(p)} for p in PARTS}
        assert speakers["test"] == {"Ses05M"}
        assert speakers["val"] == {"Ses01F"}  # the next, in cyclic order
        assert len(speakers["train"]) == 8


def test_official_is_the_corpus_own_split():
    named = {"Ses04": "val", "Ses05": "test"}
    found = [replace(u, split=named.get(u.session, "train")) for u in FOUND]
    view = make_view(found, ViewConfig(protocol="official"))
    for part in PARTS:
        assert {found[row].split for row in view.rows(part)} == {part}
    drawn = make_view(FOUND, ViewConfig(protocol="official"))
    assert {FOUND[row].split for row in drawn.test} == {"test"}
    assert {FOUND[row].split for row in (*drawn.train, *drawn.val)} == {"train"}
    total = sum(len(drawn.rows(part)) for part in PARTS)
    assert len(drawn.val) / total == pytest.approx(0.2, abs=0.02)
    assert drawn.overlap["train-val"]["dialogue"]["turns"] == 0


def test_official_without_a_split_and_with_an_unknown_one():
    with pytest.raises(ViewError, match="no official split"):
        make_view([replace(u, split=None) for u in FOUND], ViewConfig(protocol="official"))
    with pytest.raises(ViewError, match="unknown official split dev; known: train, val, test"):
        make_view([replace(FOUND[0], split="dev"), *FOUND[1:]], ViewConfig(protocol="official"))


def test_script_disjoint_shares_no_text_and_no_script():
    view = make_view(FOUND, ViewConfig(protocol="script_disjoint"))
    texts = {p: {normalise_text(FOUND[row].text) for row in view.rows(p)} for p in PARTS}
    scripts = {p: {script_of(FOUND[row].dialogue) for row in view.rows(p)} - {""} for p in PARTS}
    for first, second in combinations(PARTS, 2):
        assert not texts[first] & texts[second]
        assert not scripts[first] & scripts[second]
    assert set.union(*scripts.values()) == {"script01_1", "script02_1", "script03_1"}
    kept = sum(len(view.rows(part)) for part in PARTS)
    assert 0.7 < kept / sum(u.label not in ("xxx", "sur") for u in FOUND) < 1
    assert "left out because their text is in another part" in "".join(view.notes)


def test_folds_are_listed_when_one_is_unknown_or_missing():
    for fold, said in ((None, "needs a fold"), ("Ses09", "has no fold 'Ses09'")):
        config = ViewConfig(protocol="leave_one_session_out", fold=fold)
        with pytest.raises(ViewError, match=f"{said}; the folds are: Ses01, Ses02"):
            make_view(FOUND, config)
    assert folds(FOUND, ViewConfig()) == []
    two = [u for u in FOUND if u.session in ("Ses01", "Ses02")]
    with pytest.raises(
        ViewError, match=r"needs three sessions .* Ses01, Ses02; set val_from_train"
    ):
        make_view(two, ViewConfig(protocol="leave_one_session_out", fold="Ses01"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"test": 0.5, "val": 0.5}, "below 1"),
        ({"fold": "Ses01"}, "random has no folds"),
        ({"protocol": "leave_one_speaker_out", "val_from_train": 0.2}, "validates on a speaker"),
        ({"protocol": "kfold"}, "protocol"),
        ({"test": 0}, "test"),
    ],
)
def test_senseless_configurations_are_refused(raw, said):
    with pytest.raises(ConfigError, match=said):
        parse(ViewConfig, raw, "view.yaml")


def test_too_few_turns_to_stratify_are_counted():
    few = [u for u in FOUND if u.label == "ang"][:1] + [u for u in FOUND if u.label != "ang"]
    with pytest.raises(ViewError, match=r"cannot stratify .*1 anger"):
        make_view(few, ViewConfig())
    with pytest.raises(ViewError, match=r"too few dialogue groups: anger in 1"):
        make_view(few, ViewConfig(protocol="random_dialogues"))
