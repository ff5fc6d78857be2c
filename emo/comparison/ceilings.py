"""The ceiling for any model: the Bayes predictions, for corpora drawn from a known process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo.comparison.result import Result
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
