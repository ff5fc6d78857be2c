"""`emo predict`: many inputs through one model, what is said about them, and their scores."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

import numpy as np

from emo import metrics
from emo.serving.dialogue import DialoguePredictor
from emo.serving.items import Item, Prediction, Refusal, Result
from emo.serving.many.windows import Segment, Windows, segments, track
from emo.serving.predict import Predictor
from emo.serving.scores import CannotPredict

SHOWN = 20  # refusals that are shown one by one; the results hold them all


class Job:
    """Predicts items, reports refusals and notes on stderr, counts, and scores against labels.

    Attributes:
        refused: how many items were not predicted.
        track: the windows of all recordings, kept for RTTM lines and a picture.
    """

    def __init__(
        self, model: Predictor | DialoguePredictor, batch: int = 64, workers: int | None = None
    ) -> None:
        self.model, self.batch, self.workers = model, batch, workers
        self.refused = self.predicted = 0
        self.track: list[Prediction] = []
        self.every = 0.0
        self._notes: Counter[str] = Counter()
        self._labels: list[int] = []  # of the results in `_tables`
        self._tables: list[list[float]] = []
        self._strange: Counter[str] = Counter()
        self._began = time.monotonic()

    def results(
        self, items: Iterable[Item | Refusal], windows: tuple[float, float] | None = None
    ) -> Iterator[Result]:
        """A result for each item, or for each window (length and distance in seconds) of it."""
        if windows is not None and not isinstance(self.model, Predictor):
            raise CannotPredict("this model reads dialogues: windows need a model of turns")
        made = self._in_windows(items, Windows(*windows)) if windows else self._in_order(items)
        for one in made:
            self._count(one)
            yield one

    def _in_windows(self, items: Iterable[Item | Refusal], windows: Windows) -> Iterator[Result]:
        assert isinstance(self.model, Predictor)
        self.every = windows.every
        for item in items:
            for one in [item] if isinstance(item, Refusal) else track(self.model, item, windows):
                if isinstance(one, Prediction):
                    self.track.append(one)
                yield one

    def _in_order(self, items: Iterable[Item | Refusal]) -> Iterator[Result]:
        """Results in the order of `items`, of which some were refused when they were read."""
        order: deque[Item | Refusal] = deque()

        def usable() -> Iterator[Item]:
            for one in items:
                order.append(one)
                if isinstance(one, Item):
                    yield one

        for result in self.model.predictions(usable(), batch=self.batch, workers=self.workers):
            while isinstance(one := order.popleft(), Refusal):
                yield one
            self._score(one, result)
            yield result
        yield from (one for one in order if isinstance(one, Refusal))

    def _score(self, item: Item, result: Result) -> None:
        if item.label is None or not isinstance(result, Prediction) or result.label is None:
            return
        if item.label in self.model.classes:
            self._labels.append(self.model.classes.index(item.label))
            self._tables.append([result.probabilities[name] for name in self.model.classes])
        else:
            self._strange[item.label] += 1

    def _count(self, one: Result) -> None:
        if isinstance(one, Prediction):
            self.predicted += 1
            self._notes.update(one.notes)
            return
        self.refused += 1
        if self.refused <= SHOWN:
            _say(one.reason if one.name in one.reason else f"{one.name}: {one.reason}")
        elif self.refused == SHOWN + 1:
            _say("more could not be predicted: csv and json results hold every reason")

    def recordings(self) -> list[str]:
        """The names in `track`, each once."""
        return list(dict.fromkeys(one.name for one in self.track))

    def segments(self) -> list[Segment]:
        """The track's windows, joined where neighbours have the same label."""
        return segments(self.track, self.every)

    def say_summary(self) -> None:
        """What there is to say at the end: notes, counts, and scores where labels were given."""
        for note, count in self._notes.items():
            _say(f"note: {note}" + (f" ({count:,} times)" if count > 1 else ""))
        total = self.predicted + self.refused
        if total > 1:
            seconds = time.monotonic() - self._began
            missed = f", {self.refused:,} not" if self.refused else ""
            _say(
                f"{self.predicted:,} predicted{missed}, {total / max(seconds, 1e-6):,.0f} a second"
            )
        if self._strange:
            named = ", ".join(sorted(self._strange))
            _say(f"note: {sum(self._strange.values())} labels are no class of this model: {named}")
        if self._labels:
            _say(f"against the {len(self._labels):,} labels given: {self.scores()}")

    def scores(self) -> str:
        """The metrics of what was predicted against the labels given, as `emo eval` has them."""
        tables = np.array(self._tables)
        return metrics.in_words(metrics.evaluate(self._labels, tables, self.model.classes))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
