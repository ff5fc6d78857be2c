"""Leakage: overlap between the parts is counted, and what may not be shared is refused."""

from dataclasses import replace

import numpy as np
import pytest
from made_turns import FOUND, INDEX, PROTOCOLS, check, config_of

from shards.views.turns import normalise_text, script_of
from shards.views.view import ViewConfig, ViewError, make_view


@pytest.mark.parametrize(
    ("dialogue", "script"),
    [
        ("Ses01F_script01_1", "script01_1"),
        ("Ses05M_script01_1b", "script01_1"),
        ("Ses02M_script03_2", "script03_2"),
        ("Ses03M_impro05a", ""),
    ],
)
def test_scripts_are_named_by_the_dialogue(dialogue, script):
    assert script_of(dialogue) == script


def test_the_same_text_is_known_through_case_marks_and_tags():
    assert normalise_text("[LAUGHTER]  Excuse me.") == normalise_text("excuse  ME!") == "excuse me"
    assert normalise_text(None) == normalise_text("[BREATHING] ...") == ""


@pytest.mark.parametrize("options", PROTOCOLS)
def test_overlap_is_what_counting_one_by_one_gives(options):
    view = make_view(FOUND, config_of(options))
    facts = {
        "speaker": lambda u: u.speaker,
        "text": lambda u: normalise_text(u.text),
        "dialogue": lambda u: u.dialogue,
    }
    for pair, report in view.overlap.items():
        first, second = pair.split("-")
        clean = {u.id: u for part in (first,) for u in (FOUND[r] for r in view.rows(part))}
        for fact, of in facts.items():
            known = {of(u) for u in clean.values()}
            count = sum(of(FOUND[row]) in known for row in view.rows(second))
            assert report[fact] == {"turns": count, "share": count / len(view.rows(second))}
    assert make_view(INDEX, config_of(options)).overlap == view.overlap


def plant(view, **parts):
    return replace(view, **{name: np.array(sorted(rows)) for name, rows in parts.items()})


def test_a_planted_utterance_copy_or_variant_is_refused():
    view = make_view(INDEX, ViewConfig())
    variant = np.array(INDEX["variant"])
    own = view.test[0]
    name = INDEX["utterance"][own]
    with pytest.raises(ViewError, match=f"both in train and in test, for example {name}"):
        check(plant(view, train=[*view.train, own]), INDEX)
    with pytest.raises(ViewError, match=f"copies of them\\) are both in train and in test.*{name}"):
        check(plant(view, train=[*view.train, own + 1]), INDEX)
    with pytest.raises(ViewError, match="both in val and in test"):
        check(plant(view, val=[*view.val, own]), INDEX)
    assert variant[own + 1] == "noise"
    with pytest.raises(ViewError, match=f"augmented copy of {name}"):
        check(plant(view, test=[*view.test, own + 1]), INDEX)
    with pytest.raises(ViewError, match="test part holds a row twice"):
        check(plant(view, test=[*view.test, own]), INDEX)
    outside = int(np.flatnonzero(view.labels < 0)[0])
    with pytest.raises(ViewError, match="outside the label set"):
        check(plant(view, train=[*view.train, outside]), INDEX)


@pytest.mark.parametrize("fact", ["speaker", "session", "dialogue", "label", "split"])
def test_copies_that_disagree_with_their_utterance_are_refused(fact):
    row = INDEX["variant"].index("pitch")
    other = {"label": "sad" if INDEX["label"][row] != "sad" else "ang"}.get(fact, "elsewhere")
    columns = INDEX | {fact: [*INDEX[fact][:row], other, *INDEX[fact][row + 1 :]]}
    with pytest.raises(ViewError, match=f"{INDEX['utterance'][row]} disagree: {fact} is"):
        make_view(columns, ViewConfig())


@pytest.mark.parametrize(
    "options",
    [o for o in PROTOCOLS if o["protocol"] == "leave_one_session_out"],
)
def test_a_speaker_or_dialogue_on_two_sides_of_a_session_view_is_refused(options):
    config = config_of(options)
    known = next(u for u in FOUND if u.session == "Ses02" and u.label == "ang")
    for fact, stranger in (("speaker", "Ses04F"), ("dialogue", "Ses04F_impro048")):
        assert any(getattr(u, fact) == stranger for u in FOUND)
        planted = [replace(u, **{fact: stranger}) if u is known else u for u in FOUND]
        with pytest.raises(ViewError, match=f"share their {fact} with the .*{stranger}"):
            make_view(planted, config)


def test_planted_dialogues_speakers_and_texts_are_refused():
    for options, fact in (
        ({"protocol": "random_dialogues"}, "dialogue"),
        ({"protocol": "leave_one_speaker_out", "fold": "Ses01F"}, "speaker"),
        ({"protocol": "script_disjoint"}, "text|script"),
    ):
        view = make_view(FOUND, ViewConfig(**options))
        moved = next(
            row
            for row in view.train
            if fact != "text|script"
            or sum(normalise_text(FOUND[row].text) == normalise_text(FOUND[r].text)
                   for r in view.train) > 1
        )  # fmt: skip
        rest = [row for row in view.train if row != moved]
        with pytest.raises(ViewError, match=f"share their ({fact}) with the train part"):
            check(plant(view, train=rest, test=[*view.test, moved]), FOUND)
