"""CMU-MOSEI's labels: `CMU_MOSEI_Labels.csd`, which is HDF5 (extra `mosei` installs h5py).

A row is a segment of a video: video, segment (from 0), start, end (seconds), sentiment (-3 to 3),
and happy, sad, anger, surprise, disgust, fear (0 to 3). `present` lists the emotions above 0;
`strongest` is the highest one, "none" where all are 0 and "tie" where two are equal; `polarity` is
the sign of the sentiment as a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shards.corpora.base import CorpusError
from shards.corpora.table.layout import Records, Request, Table
from shards.errors import UserError

GROUP = "All Labels"
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
COLUMNS = (
    "video",
    "segment",
    "start",
    "end",
    "sentiment",
    *EMOTIONS,
    "present",
    "strongest",
    "polarity",
)


def read(one: Request) -> Table:
    """The labelled segments of all videos.

    Raises:
        UserError: h5py is not installed.
        CorpusError: the file is not that of the SDK.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{one.path} is HDF5, which needs h5py: pip install 'emo-shards[mosei]'"
        ) from None
    records: Records = []
    empty: list[str] = []
    try:
        with h5py.File(one.path, "r") as file:
            videos = file[GROUP]["data"]
            for video in videos:
                labels = np.asarray(videos[video]["features"], np.float64)
                times = np.asarray(videos[video]["intervals"], np.float64)
                for number, (row, (start, end)) in enumerate(zip(labels, times, strict=True)):
                    where = f"{one.path}: {video}: segment {number}"
                    if end <= max(0.0, start):
                        empty.append(where)
                        continue
                    values = {"video": video, "segment": number, "start": start, "end": end}
                    records.append((values | _values(row), where))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CorpusError(f"{one.path} cannot be read as CMU-MOSEI's labels: {error}") from None
    if empty:
        one.notes.append(f"{len(empty)} segments have no length and are left out ({empty[0]})")
    return Table({*COLUMNS}, records)


def _values(row: np.ndarray) -> dict[str, Any]:
    sentiment, *strengths = row.tolist()
    most = max(strengths)
    first = [name for name, strength in zip(EMOTIONS, strengths, strict=True) if strength == most]
    strongest = first[0] if len(first) == 1 else "tie"
    return {
        "sentiment": sentiment,
        **dict(zip(EMOTIONS, strengths, strict=True)),
        "present": [
            [name for name, strength in zip(EMOTIONS, strengths, strict=True) if strength > 0]
        ],
        "strongest": strongest if most > 0 else "none",
        "polarity": ("neutral", "positive", "negative")[int(np.sign(sentiment))],
    }
