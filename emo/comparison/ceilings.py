"""The ceiling for any model: the Bayes predictions, for corpora drawn from a known process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo.comparison.result import Result
from emo.evaluation.attributes.scores import scores
from shards.store.index import TRUTH, home_of


def bayes_predictions(result: Result, context: bool = True) -> np.ndarray | None:
    """The best possible predictions, int [N], of the same turns from the same evidence.

    None if the process behind the corpus is unknown. Without `context`, the evidence is each turn
    by itself, even if the model sees other turns.
    """
    path = home_of(Path(result.facts["dataset"]["folder"])) / TRUTH
    if not path.is_file():
        return None
    # Imported here, because comparisons on other corpora do not need it.
    from shards.corpora.labels import label_set
    from shards.sample.ceilings import ceilings

    evidence = "both" if len(result.reads) == 2 else result.reads[0]
    kind = evidence
    if context and result.sees:
        kind = f"{evidence} {result.sees}".removeprefix("both ")
    by_utterance = ceilings(path, label_set(result.facts["label_codes"])).get(kind)
    if by_utterance is None:
        return None
    return np.array([int(np.argmax(by_utterance[name])) for name in result.turns.utterances])


def attribute_ceilings(result: Result) -> dict[str, float]:
    """By attribute, the best CCC from the same evidence on the same turns.

    Empty where the process behind the corpus is unknown, or the run predicts no attributes.
    """
    attributes = result.turns.attributes or {}
    path = home_of(Path(result.facts["dataset"]["folder"])) / TRUTH
    if not attributes or not path.is_file():
        return {}
    from shards.corpora.labels import label_set
    from shards.sample import attributes as sample

    kind = "both" if len(result.reads) == 2 else result.reads[0]
    by_turn = sample.attribute_ceilings(path, label_set(result.facts["label_codes"]))[kind]
    best_NA = np.array([by_turn[name] for name in result.turns.utterances])
    found = {}
    for name, (_, true) in attributes.items():
        there = ~np.isnan(true)
        best = best_NA[there, sample.NAMES.index(name)]
        stretched = sample.stretched(best, float(true[there].var()))
        found[name] = scores(stretched, true[there], resamples=0)["ccc"]
    return found
