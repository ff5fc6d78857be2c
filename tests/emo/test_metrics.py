"""Metrics against scikit-learn; the choice of the best epoch by known answers."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from emo.metrics import (
    confusion,
    evaluate,
    expected_calibration_error,
    improves,
    in_words,
    selectable,
    selection_score,
)
from tests.emo.drawn import CLASSES, drawn


def test_everything_equals_scikit_learn():
    labels, probabilities = drawn(500)
    predicted = probabilities.argmax(1)
    result = evaluate(labels, probabilities, CLASSES)
    assert result["n"] == 500
    assert result["labels"] == list(CLASSES)
    assert result["wa"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert result["ua"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert result["weighted_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="weighted")
    )
    assert result["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )
    np.testing.assert_array_equal(
        result["confusion"], reference.confusion_matrix(labels, predicted)
    )
    columns = reference.precision_recall_fscore_support(labels, predicted)
    for index, name in enumerate(CLASSES):
        row = result["classes"][name]
        got = (row["precision"], row["recall"], row["f1"], row["support"])
        assert got == pytest.approx([column[index] for column in columns])
    json.dumps(result)


def test_absent_and_never_predicted_classes():
    labels, predicted = np.array([0, 0, 1, 3]), np.array([0, 1, 1, 1])
    result = evaluate(labels, np.eye(5)[predicted], CLASSES)
    assert result["ua"] == pytest.approx((0.5 + 1 + 0) / 3)  # the classes that occur
    assert result["weighted_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="weighted", zero_division=0)
    )
    assert result["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro", labels=[0, 1, 3], zero_division=0)
    )
    assert result["classes"]["sadness"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.zeros((0, 5)), "nothing"),
        ([0, 5], np.full((2, 5), 0.2), "labels must lie"),
        ([0, -1], np.full((2, 5), 0.2), "labels must lie"),
        ([0], np.full((1, 4), 0.25), "wanted"),
        ([0], np.full((1, 5), np.nan), "finite"),
    ],
)
def test_what_cannot_be_evaluated(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate(labels, probabilities, CLASSES)


def test_calibration_error():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=40_000)
    sampled = (rng.random((40_000, 1)) > probabilities.cumsum(1)).sum(1).clip(max=3)
    assert expected_calibration_error(sampled, probabilities) < 0.01
    sure = np.tile([0.9, 0.1], (100, 1))
    half_right = np.arange(100) % 2
    assert expected_calibration_error(half_right, sure) == pytest.approx(0.4)
    # A bin's own mean counts, not the mean over all: over- and underconfidence do not cancel.
    mixed = np.concatenate([np.tile([0.95, 0.05], (100, 1)), np.tile([0.55, 0.45], (100, 1))])
    labels = np.concatenate([half_right, np.zeros(100, int)])
    assert expected_calibration_error(labels, mixed) == pytest.approx(0.45)


def test_confusion_keeps_classes_that_do_not_occur():
    assert confusion([1, 1], [0, 1], 3).tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_selection_knows_the_watched_metrics_and_their_earlier_names():
    assert [selectable(name) for name in ("ua", "loss", "f1")] == ["ua", "loss", "weighted_f1"]
    for name, message in (
        ("weigthed_f1", "did you mean 'weighted_f1'"),
        ("UA", "did you mean 'ua'"),
        (
            "ece",
            "there are wa, ua, weighted_f1, macro_f1, ccc, loss",
        ),  # not computed at every validation
    ):
        with pytest.raises(ValueError, match=message):
            selectable(name)


def test_a_better_epoch_has_the_better_score_and_at_a_tie_the_lower_loss():
    values = {"ua": 0.6, "loss": 0.9}
    assert selection_score("ua", values) == 0.6
    assert selection_score("loss", values) == -0.9
    assert improves(0.6, 0.9, best_score=None, best_loss=None)
    assert improves(0.6, 0.9, best_score=0.5, best_loss=0.1)
    assert not improves(0.6, 0.1, best_score=0.7, best_loss=0.9)
    assert improves(0.6, 0.9, best_score=0.6, best_loss=1.0)
    assert not improves(0.6, 0.9, best_score=0.6, best_loss=0.9)
    assert not improves(0.6, 0.9, best_score=0.6, best_loss=None)  # an older checkpoint
    assert not improves(float("nan"), float("nan"), best_score=0.6, best_loss=0.9)


def test_metrics_on_one_line():
    values = {"loss": 0.9111, "wa": 0.61, "weighted_f1": 0.5999}
    assert in_words(values) == "WA 61.0 weighted F1 60.0 loss 0.911"
