"""Views: the right turns on the right side, overlap told, leaks refused."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from shards.configfile import ConfigError, parse
from shards.corpora.utterance import Utterance
from shards.store.schema import VARIANTS
from shards.views.leakage import check_rows
from shards.views.turns import normalise_text, script_of, turns_of
from shards.views.view import COLUMNS, ViewConfig, ViewError, folds, make_view

CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "xxx", "sur")
PARTS = ("train", "val", "test")


def utterances(dialogues=60, turns=12, texts=200, seed=0):
    """A small corpus in IEMOCAP's manner: five sessions, two speakers each, some scripts."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(dialogues):
        session = f"Ses0{number % 5 + 1}"
        scene = f"script0{number // 10 % 3 + 1}_1" if number % 4 == 3 else f"impro{number:03d}"
        dialogue = f"{session}F_{scene}" + ("" if number % 4 != 3 else f"x{number}")
        for turn in range(turns):
            gender = "FM"[turn % 2]
            code = str(random.choice(CODES, p=(0.15, 0.1, 0.1, 0.15, 0.2, 0.15, 0.1, 0.05)))
            common = random.random() < 0.1
            text = "Okay." if common else f"Line number {random.integers(texts)}!"
            found.append(
                Utterance(
                    id=f"{dialogue}_{gender}{turn:03d}",
                    audio=None,
                    text=text,
                    label=code,
                    votes=((code,),),
                    speaker=session + gender,
                    session=session,
                    dialogue=dialogue,
                    turn=turn,
                    split="test" if session == "Ses05" else "train",
                )
            )
    return found


def index_of(found):
    """Index columns: five variants of labelled turns, clean alone of the others."""
    columns = {name: [] for name in COLUMNS}
    for item in found:
        for variant in VARIANTS if item.label != "xxx" else VARIANTS[:1]:
            for name in COLUMNS:
                value = {"utterance": item.id, "variant": variant}.get(name)
                columns[name].append(getattr(item, name) if value is None else value)
    return columns


FOUND = utterances()
INDEX = index_of(FOUND)
PROTOCOLS = (
    {"protocol": "random"},
    {"protocol": "random", "val_from_train": 0.2},
    {"protocol": "random_dialogues"},
    {"protocol": "leave_one_session_out", "fold": "Ses02"},
    {"protocol": "leave_one_session_out", "fold": "Ses02", "val_from_train": 0.2},
    {"protocol": "leave_one_speaker_out", "fold": "Ses02F"},
    {"protocol": "official"},
    {"protocol": "script_disjoint"},
)


def config_of(options, **more):
    return ViewConfig(**(options | more))


def column(view, part, name, index=INDEX):
    return np.array(index[name], dtype=object)[view.rows(part)]


def assert_sound(view, index):
    """What holds for every view of every protocol."""
    utterance, variant = (np.array(index[name]) for name in ("utterance", "variant"))
    inside = np.array([view.label_set.class_of(code) for code in index["label"]])
    assert np.array_equal(view.labels, inside)
    for part in PARTS:
        rows = view.rows(part)
        assert rows.dtype == np.int64
        assert len(rows)
        assert (np.diff(rows) > 0).all()
        assert (view.labels[rows] >= 0).all()
    for part in ("val", "test"):
        assert (variant[view.rows(part)] == "clean").all()
    copies = np.isin(utterance, utterance[view.train])
    assert np.array_equal(np.flatnonzero(copies), view.train), "all variants train, together"
    for first, second in combinations(PARTS, 2):
        assert not set(utterance[view.rows(first)]) & set(utterance[view.rows(second)])
    assert set(view.labels[view.train]) == set(range(len(view.label_set.classes)))
    check(view, index)


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


def check(view, columns):
    """What `make_view` ends with, for a view that was tampered with."""
    rows = {part: view.rows(part) for part in PARTS}
    check_rows(turns_of(columns), view.labels, rows, view.config)


def plant(view, **parts):
    return replace(view, **{name: np.array(sorted(rows)) for name, rows in parts.items()})


def test_a_planted_utterance_copy_or_variant_is_refused():
    view = make_view(INDEX, ViewConfig())
    variant = np.array(INDEX["variant"])
    own = view.test[0]
    name = INDEX["utterance"][own]
    with pytest.raises(ViewError, match=f"both in train and in test, for example {name}"):
        check(plant(view, train=[*view.train, own]), INDEX)
    with pytest.raises(ViewError, match=f"as copies\\) both in train and in test.*{name}"):
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
    with pytest.raises(ViewError, match="class fear"):
        make_view(FOUND, ViewConfig(labels="eight"))
    with pytest.raises(ViewError, match="no turn has a label of the set 'custom'"):
        make_view(FOUND, ViewConfig(labels={"bored": ("bor",), "calm": ("cal",)}))


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
