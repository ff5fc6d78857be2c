import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.corpora.labels import LABEL_SETS, LabelSetError, label_set
from shards.corpora.utterance import CODES, NO_MAJORITY
from shards.corpora.words import CODE_NAMES, code_of


def test_the_sets_have_their_classes_in_order():
    assert label_set("four").classes == ("anger", "happiness", "neutral", "sadness")
    assert label_set("five").classes == (
        "anger",
        "frustration",
        "happiness",
        "neutral",
        "sadness",
    )
    six = label_set("six")
    assert six.classes == (
        "anger",
        "excitement",
        "frustration",
        "happiness",
        "neutral",
        "sadness",
    )
    eight = {code for codes in label_set("eight").codes for code in codes}
    assert eight == {"ang", "exc", "fea", "fru", "hap", "neu", "sad", "sur"}
    assert len(label_set("all").classes) == len(CODES) == len(CODE_NAMES)


def test_excited_joins_happiness_in_four_and_five_and_stays_apart_in_six():
    for name in ("four", "five"):
        labels = label_set(name)
        assert labels.class_of("exc") == labels.class_of("hap") == labels.classes.index("happiness")
    six = label_set("six")
    assert six.classes[six.class_of("exc")] == "excitement"
    assert six.classes[six.class_of("hap")] == "happiness"


def test_codes_outside_the_set_and_no_majority_have_no_class():
    five = label_set("five")
    assert five.class_of("sur") == -1
    for name in LABEL_SETS:
        assert label_set(name).class_of(NO_MAJORITY) == -1


def test_two_of_three_annotators_make_two_thirds():
    shares, dropped = label_set("five").distribution([("ang",), ("fru",), ("ang",)])
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3, 0, 0, 0])
    assert dropped == 0.0


def test_a_vote_for_two_categories_is_split_and_merged_classes_add_up():
    shares, dropped = label_set("five").distribution([("hap", "exc"), ("neu", "fru"), ("neu",)])
    np.testing.assert_allclose(shares, [0, 1 / 6, 1 / 3, 1 / 2, 0])
    assert dropped == 0.0


def test_mass_outside_the_set_is_dropped_and_the_rest_scaled_back():
    shares, dropped = label_set("four").distribution([("ang", "fru"), ("fru",), ("ang",)])
    np.testing.assert_allclose(shares, [1, 0, 0, 0])
    assert dropped == pytest.approx(1 / 2)


def test_votes_wholly_outside_leave_zeros():
    for votes in ([("fru",), ("oth",)], []):
        shares, dropped = label_set("four").distribution(votes)
        np.testing.assert_array_equal(shares, np.zeros(4))
        assert dropped == 1.0


@given(st.lists(st.lists(st.sampled_from(CODES), min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_distribution_is_one(votes):
    for name in LABEL_SETS:
        shares, dropped = label_set(name).distribution(votes)
        assert shares.dtype == np.float64
        assert 0.0 <= dropped <= 1.0
        assert shares.sum() == pytest.approx(0.0 if dropped == 1.0 else 1.0)
    assert label_set("all").distribution(votes)[1] == pytest.approx(0.0)


def test_a_custom_map_keeps_its_order():
    labels = label_set({"negative": ["sad", "ang"], "positive": ["hap"]})
    assert labels.classes == ("negative", "positive")
    assert [labels.class_of(code) for code in ("sad", "ang", "hap", "neu")] == [0, 0, 1, -1]
    assert labels == label_set({"negative": ("sad", "ang"), "positive": ("hap",)})


def test_words_and_codes_of_one_emotion_are_one_class():
    labels = label_set(
        {"cross": ["anger"], "awe": ["Awe"], "nice": ["pleasant  Surprise", "HAPPY"]}
    )
    assert labels.codes == (("ang",), ("awe",), ("pleasant surprise", "hap"))
    assert labels.class_of("pleasant surprise") == 2
    assert labels.class_of("contempt") == -1
    shares, dropped = labels.distribution([("awe",), ("contempt",), ("hap", "ang")])
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25])
    assert dropped == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("word", "code"),
    [("xxx", "xxx"), (" Neutral ", "neu"), ("FEAR", "fea"), ("fearful", "fea"), ("joy", "joy"),
     ("Amusement", "amusement"), ("U\u0308BERRASCHT", "\u00fcberrascht"), ("1e3", "1e3")],
)  # fmt: skip
def test_a_word_has_one_code(word, code):
    assert code_of(word) == code
    assert code_of(code) == code


def test_errors_name_value_and_remedy():
    with pytest.raises(LabelSetError, match=r"unknown label set 'fvie'.*four, five, six, eight"):
        label_set("fvie")
    with pytest.raises(LabelSetError) as caught:
        label_set({"a": ["ang", "xxx"], "b": ["neu", "Angry "], "c": [], "d": "sad", "e": [" "]})
    message = str(caught.value)
    assert "'Angry ' is in 'a' and again in 'b'" in message
    assert "class 'e' names an empty word" in message
    assert "xxx marks turns without a majority" in message
    assert "class 'c' has no codes" in message
    assert "write its codes as a list, [sad]" in message
    with pytest.raises(LabelSetError, match="at least two"):
        label_set({"only": ["ang"]})
