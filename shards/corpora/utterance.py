"""`Utterance`: one spoken turn as a reader yields it, and the emotion codes that label it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.corpora.attributes import Attribute

# The codes that corpora share: IEMOCAP's own, and two more. Other emotions go by their words
# (`words.py`). Never add to them: they are the classes of the label set "all". `NO_MAJORITY` is a
# hard label only.
CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "sur", "fea", "dis", "oth", "cal", "bor")
NO_MAJORITY = "xxx"

LONG = 60.0  # seconds; longer turns get a warning, because most are segmented wrongly
# The segment of a turn whose times are known to be no places in its recording.
WHOLE: tuple[float, float | None] = (0.0, None)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken turn of a corpus, as a reader yields it.

    `votes` holds one entry an annotator: the codes that he named (usually one). `label` is the
    release's hard label, never recomputed: a code, a word (`words.code_of`) or `NO_MAJORITY`. Times
    are seconds.
    At least one of `audio` and `text` is given. `turn` counts from 0 inside the dialogue, in time
    order. `source` says where the facts stand (`file:line`), for error messages.

    `segment` is the part of `audio` that the turn is, from and to (None: the end); without it, the
    turn is the whole file. `WHOLE` says that its times are known to be no places in the file.
    `embedded` names a column and a row (from 0) of a Parquet file, which
    `audio` then is: the recording lies in that cell.
    """

    id: str
    audio: Path | None
    text: str | None
    label: str
    votes: tuple[tuple[str, ...], ...]
    speaker: str
    session: str
    dialogue: str
    turn: int
    start: float | None = None
    end: float | None = None
    split: str | None = None  # official: "train", "val" or "test"
    source: str = ""
    segment: tuple[float, float | None] | None = None
    embedded: tuple[str, int] | None = None
    attributes: tuple[Attribute, ...] | None = None


# Facts that came later: where they are None, a corpus' digest is what it was without them.
LATER_FACTS = ("segment", "embedded", "attributes")
