"""The accuracies in the paper, to show next to ours where they are comparable."""

from __future__ import annotations

from pathlib import Path

import yaml

from emo.comparison.result import Result
from shards.store.index import CONFIG, TRUTH, home_of

# Table 3: WA in %, by system and input.
TABLE_3 = {
    ("ICON", "text"): 58.3,
    ("ICON", "audio"): 50.7,
    ("ICON", "text + audio"): 63.8,
    ("bc-LSTM", "text"): 73.6,
    ("bc-LSTM", "audio"): 57.1,
    ("bc-LSTM", "text + audio"): 75.6,
    ("the paper's", "text"): 72.4,
    ("the paper's", "audio"): 47.8,
    ("the paper's", "text + audio"): 76.9,
}


def published_accuracy(result: Result) -> float | None:
    """The paper's WA (%) for this system and input; None unless the corpus is IEMOCAP, 5 classes.

    The sample corpus is read as IEMOCAP too; its truth file tells that it is not.
    """
    config = home_of(Path(result.facts["dataset"]["folder"])) / CONFIG
    if len(result.facts["classes"]) != 5 or not config.is_file():
        return None
    reader = (yaml.safe_load(config.read_text()).get("corpus") or {}).get("reader")
    if reader != "iemocap" or (config.parent / TRUTH).is_file():
        return None
    return TABLE_3.get((result.system, " + ".join(result.reads)))
