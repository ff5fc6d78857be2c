"""When what is shown. `PICTURES` is the list of what is drawn after each validation.

To add a picture, write a function of a `Moment`, and name it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from emo.watching.embeddings import write_projector
from emo.watching.moment import Moment
from emo.watching.pictures.results import show_confusion, show_precision_recall, show_reliability
from emo.watching.pictures.turns import show_turns
from emo.watching.settings import rank

PICTURES: dict[str, Callable[[Moment], None]] = {
    "confusion": show_confusion,
    "reliability": show_reliability,
    "precision_recall": show_precision_recall,
    "turns": show_turns,
}
OF_RESULT = ("confusion", "reliability", "precision_recall")


def after_validation(moment: Moment, first: bool) -> None:
    """Draw what an epoch has come to: the `first`, or a later one.

    Call it between validation and checkpoint: see `Tracker`.
    """
    moment = replace(moment, first=first)
    if moment.run.config.watch.pictures:
        _draw(moment, PICTURES)


def after_training(
    result: Moment,
    parts: Mapping[str, Mapping[str, Any]],
    embedded: Moment,
    vectors: Mapping[str, np.ndarray],
) -> None:
    """Show the result: of test, and the table of hyper-parameters by which runs are ranked.

    Args:
        result: the predictions of test by the chosen checkpoint, at its temperature.
        parts: the results, as in `metrics.json`.
        embedded: the validation turns that are shown as points.
        vectors: by name what the model makes of them, float [N, width].
    """
    run = result.run
    rank(run, parts)
    if run.config.watch.pictures:
        _draw(result, OF_RESULT)
    if len(embedded.rows):
        scores = np.log(np.maximum(embedded.probabilities, 1e-9))
        write_projector(run.config.run, {"scores": scores, **vectors}, embedded)


def _draw(moment: Moment, names: Iterable[str]) -> None:
    for name in names:
        try:
            PICTURES[name](moment)
        except Exception as error:  # days of training must not end because of a picture
            moment.tracker.say(f"could not draw {name}: {type(error).__name__}: {error}")
