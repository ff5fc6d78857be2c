"""Confusion matrix, reliability diagram, and precision over recall."""

from __future__ import annotations

import numpy as np
from torch.utils.tensorboard.summary import pr_curve_raw

from emo.figures.confusion import confusion_picture
from emo.figures.reliability import reliability_bins, reliability_picture
from emo.metrics import accuracy, expected_calibration_error, mean_recall
from emo.watching.moment import Moment

THRESHOLDS = 127  # of a precision-recall curve


def show_confusion(moment: Moment) -> None:
    """Row-normalised, with the counts in the cells."""
    table = moment.confusion.astype(float)
    scores = f"WA {100 * accuracy(table):.1f} %, UA {100 * mean_recall(table):.1f} %"
    image = confusion_picture(moment.confusion, moment.classes, f"{moment.part}: {scores}")
    moment.tracker.picture(f"confusion/{moment.part}", image, moment.step)


def show_reliability(moment: Moment) -> None:
    """Accuracy over confidence."""
    error = expected_calibration_error(moment.labels, moment.probabilities)
    image = reliability_picture(
        reliability_bins(moment.labels, moment.probabilities),
        f"{moment.part}: ECE {100 * error:.1f} %",
    )
    moment.tracker.picture(f"reliability/{moment.part}", image, moment.step)


def show_precision_recall(moment: Moment) -> None:
    """One curve a class: that class against all others."""
    for number, name in enumerate(moment.classes):
        counts = _counts(moment.labels == number, moment.probabilities[:, number])
        tag = f"{moment.part}_precision_recall/{name}"
        curve = pr_curve_raw(tag, **counts, num_thresholds=THRESHOLDS)
        moment.tracker.add(curve, moment.step)


def _counts(truth: np.ndarray, probability: np.ndarray) -> dict[str, np.ndarray]:
    """What a precision-recall curve is made of, at `THRESHOLDS` thresholds from 0 to 1.

    Args:
        truth: bool [N].
        probability: float [N].
    """
    place = np.floor(probability * (THRESHOLDS - 1)).astype(int)  # the last threshold below it

    def at_least(chosen: np.ndarray) -> np.ndarray:
        hist = np.bincount(place[chosen], minlength=THRESHOLDS)
        return np.cumsum(hist[::-1])[::-1].astype(float)

    hits, alarms = at_least(truth), at_least(~truth)
    tiny = 1e-12
    return {
        "tp": hits,
        "fp": alarms,
        "tn": (~truth).sum() - alarms,
        "fn": truth.sum() - hits,
        "precision": hits / np.maximum(hits + alarms, tiny),
        "recall": hits / max(float(truth.sum()), tiny),
    }
