"""How stored features are scaled before a model reads them: the setting `data.normalise`.

=========  =========================================================================================
`train`    by the mean and deviation of all training rows: the paper's. Keeps every difference
           between voices and rooms, from which a small corpus lets a model learn its speakers.
`turn`     each turn by its own: what is loud, bright or high throughout a turn is taken away, its
           course stays.
`speaker`  by those of all clean turns of its speaker. Labels are not looked at, but all turns of a
           test speaker are: his first turn cannot be predicted as well before the others are there.
`corpus`   by those of all clean turns of the dataset, whatever part they are in.
=========  =========================================================================================

One file holds one kind; `NORMALISERS` lists them. Waveforms are not normalised: an encoder does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from emo.data.config import NormaliseName
from emo.data.normalise.base import Normaliser
from emo.data.normalise.corpus import CorpusStatistics
from emo.data.normalise.speaker import SpeakerStatistics
from emo.data.normalise.train import TrainStatistics
from emo.data.normalise.turn import TurnStatistics

NORMALISERS: dict[str, type[Normaliser]] = {
    one.kind: one for one in (TrainStatistics, TurnStatistics, SpeakerStatistics, CorpusStatistics)
}
assert tuple(NORMALISERS) == get_args(NormaliseName)


def from_json(raw: Mapping[str, Any]) -> Normaliser:
    """The inverse of `to_json`; what older programs wrote names no kind and is of `train`."""
    return NORMALISERS[raw.get("kind", "train")].from_json(raw)
