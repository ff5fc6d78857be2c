"""Views: every view is sound, depends on the turns alone and says what it is."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_turns import FOUND, INDEX, PARTS, PROTOCOLS, assert_sound, config_of, index_of, utterances

from shards.views.view import ViewConfig, ViewError, make_view


@pytest.mark.parametrize("options", PROTOCOLS)
def test_every_protocol_gives_a_sound_view(options):
    view = make_view(INDEX, config_of(options))
    assert_sound(view, INDEX)
    if options["protocol"] not in ("script_disjoint",):
        clean = np.array(INDEX["variant"]) == "clean"
        kept = sum(clean[view.rows(part)].sum() for part in PARTS)
        assert kept == sum(item.label not in ("xxx", "sur") for item in FOUND)


@pytest.mark.parametrize("options", PROTOCOLS)
def test_a_view_depends_on_the_turns_alone(options):
    config = config_of(options)
    view = make_view(INDEX, config)
    mixed = np.random.default_rng(1).permutation(len(INDEX["utterance"]))
    shuffled = {name: [values[i] for i in mixed] for name, values in INDEX.items()}
    other = make_view(shuffled, config)
    assert_sound(other, shuffled)
    assert other.digest == view.digest == make_view(FOUND[::-1], config).digest
    assert other.overlap == view.overlap


def test_a_sample_twice_or_without_a_clean_one_is_refused():
    twice = {name: [*values, values[7]] for name, values in INDEX.items()}
    with pytest.raises(ViewError, match=f"{INDEX['utterance'][7]} .* is in the index twice"):
        make_view(twice, ViewConfig())
    without = {name: values[1:] for name, values in INDEX.items()}
    with pytest.raises(ViewError, match=f"{INDEX['utterance'][0]} has no clean sample"):
        make_view(without, ViewConfig())
    lacking = {name: values for name, values in INDEX.items() if name != "speaker"}
    with pytest.raises(ViewError, match="lacks the columns speaker"):
        make_view(lacking, ViewConfig())


def test_a_class_without_training_turns_is_named():
    found = [replace(u, label="fea") if u.session == "Ses05" else u for u in FOUND]
    labels = {"afraid": ("fea",), "angry": ("ang",), "sad": ("sad",)}
    config = ViewConfig(protocol="leave_one_session_out", fold="Ses05", labels=labels)
    with pytest.raises(ViewError, match="class afraid of the set 'custom' has no training turn"):
        make_view(found, config)
    with pytest.raises(ViewError, match="no turn has the class fear of the set 'eight'") as caught:
        make_view(FOUND, ViewConfig(labels="eight"))
    # The remedy can be pasted: it is a set of the classes that are there.
    remedy = re.search(r"labels='(\{.*\})' in this view", str(caught.value))
    view = make_view(FOUND, ViewConfig(labels=yaml.safe_load(remedy[1])))
    assert len(view.label_set.classes) == 7
    assert "fear" not in view.label_set.classes
    with pytest.raises(ViewError, match="no turn has a label of the set 'custom'"):
        make_view(FOUND, ViewConfig(labels={"bored": ("bor",), "calm": ("cal",)}))


def test_words_of_a_corpus_are_classes_and_a_misspelt_one_is_told():
    turns = [replace(one, label="contempt") if one.label == "sad" else one for one in FOUND]
    classes = {"scorn": ("Contempt", "awe"), "rest": ("ang", "neu")}
    view = make_view(turns, ViewConfig(labels=classes))
    assert {FOUND[row].label for row in np.flatnonzero(view.labels == 0)} == {"sad"}
    assert "no turn has the label 'awe'" in view.notes
    classes["scorn"] = ("contemt", "awe")
    with pytest.raises(ViewError, match=r"no turn has 'contemt' .*did you mean 'contempt'\?"):
        make_view(turns, ViewConfig(labels=classes))


def test_whole_dialogues_bring_the_turns_outside_the_set_as_context():
    view = make_view(INDEX, ViewConfig(protocol="random_dialogues"))
    utterance, turn = np.array(INDEX["utterance"]), np.array(INDEX["turn"])
    seen = []
    for part in PARTS:
        for rows in view.dialogues(part):
            assert turn[rows].tolist() == list(range(12))
            assert len({INDEX["dialogue"][row] for row in rows}) == 1
            assert set(rows[view.labels[rows] >= 0]) <= set(view.rows(part))
            seen += list(rows)
    assert sorted(utterance[seen]) == sorted(u.id for u in FOUND)
    assert (view.labels[seen] < 0).any()


@pytest.mark.parametrize("options", [PROTOCOLS[0], PROTOCOLS[5]])
def test_a_view_that_splits_dialogues_is_refused_to_context_models(options):
    view = make_view(FOUND, config_of(options))
    with pytest.raises(ViewError, match=r"puts dialogue Ses0\dF_\w+ into .* use random_dialogues"):
        view.dialogues("train")


def test_a_view_says_what_it_is():
    view = make_view(INDEX, ViewConfig(seed=7))
    assert view.name == "random, test 10 %, validation 20 %, seed 7"
    assert view.overlap["train-test"]["speaker"]["share"] == 1
    assert view.digest != make_view(INDEX, ViewConfig(seed=8)).digest


@given(
    st.integers(2, 60),
    st.integers(1, 15),
    st.integers(1, 60),
    st.integers(0, 1000),
    st.sampled_from(PROTOCOLS),
    st.sampled_from(("four", "five", "six")),
)
@settings(max_examples=80, deadline=None)
def test_any_corpus_gives_a_sound_view_or_a_clear_refusal(
    dialogues, turns, texts, seed, options, labels
):
    index = index_of(utterances(dialogues, turns, texts, seed))
    try:
        view = make_view(index, config_of(options, labels=labels, seed=seed))
    except ViewError:
        return  # anything but a user error fails the test
    assert_sound(view, index)


def test_importing_views_is_light():
    code = "import shards.views.view, sys\n"
    code += "print(sorted({'sklearn', 'torch', 'scipy'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
