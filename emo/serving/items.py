"""What goes into a prediction and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sound:
    """Samples in memory: float (nominally in ±1) or integers, [samples] or [samples, channels]."""

    samples: np.ndarray
    rate: int  # Hz


@dataclass(frozen=True)
class Item:
    """One input: a recording, a transcript, or both.

    Attributes:
        name: what it is called in results and messages.
        start, end: seconds; the part of the recording that is meant, None for its ends.
        dialogue, speaker: read by models over dialogues only.
        label: the true class where it is known.
    """

    name: str
    audio: Path | Sound | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None
    dialogue: str | None = None
    speaker: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Prediction:
    """The probability of each class, by name.

    Attributes:
        start, end: seconds, of a window or a part of a recording.
        notes: what a reader should know, such as an input that the model does not read.
        attributes: by name, on the corpus' scale, of a model that predicts them.
    """

    name: str
    probabilities: dict[str, float]
    start: float | None = None
    end: float | None = None
    notes: tuple[str, ...] = field(default=())
    attributes: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str | None:
        """The most probable class; None for silence, of which nothing is predicted."""
        table = self.probabilities
        return max(table, key=lambda name: table[name]) if table else None

    @property
    def confidence(self) -> float:
        """The probability of `label`."""
        return max(self.probabilities.values(), default=0.0)


@dataclass(frozen=True)
class Refusal:
    """An item that cannot be predicted, and why; `kind` is that of an `AudioError`."""

    name: str
    reason: str
    start: float | None = None
    end: float | None = None
    kind: str | None = None


Result = Prediction | Refusal
