"""What no model could beat: the Bayes predictions, where the corpus was made by a known process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo.comparison.result import Result
from shards.store.index import TRUTH


def bayes_predictions(result: Result, context: bool = True) -> np.ndarray | None:
    """The best predictions, int [N], of the same turns from the same evidence; None if unknown.

    Without `context`, from each turn by itself, whatever else the model sees.
    """
    path = Path(result.facts["dataset"]["folder"]) / TRUTH
    if not path.is_file():
        return None
    # Imported here: the sample corpus is needed for made corpora only.
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
