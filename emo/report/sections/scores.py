"""Scores of a run by class, by speaker, by session and by corpus, and how far it can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from emo import metrics
from emo.evaluation.uncertainty import Z_95
from emo.figures.reliability import reliability_bins
from emo.report import svg
from emo.report.subject import Subject

GROUPS = {"speaker": "speaker", "session": "session", "corpus": "corpus"}  # title -> column
MOST = 40  # groups of a table; the page says how many more there are


def by_class(subject: Subject) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class."""
    return [{"name": name, **values} for name, values in subject.scores["classes"].items()]


def by_group(subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """For each of `GROUPS` that the dataset tells apart, its members, the lowest WA first.

    A member has `name`, `turns`, `wa` with its 95 % interval from `low` to `high`, and `ua`.
    """
    turns, found = subject.turns, {}
    right = turns.predicted == turns.labels
    for title, column in GROUPS.items():
        names = subject.column(column)
        if names is None or len(set(names.tolist())) < 2:
            continue
        groups: list[dict[str, Any]] = []
        for name in sorted(set(map(str, names.tolist()))):
            inside = names.astype(str) == name
            table = metrics.confusion(
                turns.labels[inside], turns.predicted[inside], len(turns.classes)
            )
            scores = metrics.of_confusion(table)
            low, high = wilson(int(right[inside].sum()), int(inside.sum()))
            row = {"name": name, "turns": int(inside.sum()), "low": low, "high": high}
            groups.append(row | {"wa": scores["wa"], "ua": scores["ua"]})
        found[title] = sorted(groups, key=lambda one: one["wa"])
    return found


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), which holds for few turns and near 0 and 1 too."""
    share, z2 = hits / count, Z_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def calibration(subject: Subject) -> tuple[Markup, str]:
    """The reliability diagram, and the calibration error before and after the temperature."""
    turns = subject.turns
    bins = reliability_bins(turns.labels, turns.probabilities)
    after = 100 * subject.scores["ece"]
    before = [one.scores.get("ece_before") for one in subject.results]
    text = f"ECE {after:.1f} %"
    if not subject.is_cross_validation and before[0] is not None:
        temperature = subject.facts["temperature"]
        text += f" ({100 * before[0]:.1f} % without the temperature {temperature:.2f})"
    return svg.reliability(bins, f"{subject.name}: reliability"), text
