"""Results as a readable table, CSV or JSON lines, written one by one as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from emo.serving.items import Prediction, Refusal, Result

Write = Callable[[Result], None]


def _json(file: TextIO, classes: Sequence[str]) -> Write:
    def write(one: Result) -> None:
        line: dict[str, Any] = {"id": one.name}
        if isinstance(one, Refusal):
            line["error"] = one.reason
        else:
            times = {"start": one.start, "end": one.end}
            line |= {name: time for name, time in times.items() if time is not None}
            line |= {"label": one.label, "probabilities": one.probabilities}
            if one.attributes:
                line["attributes"] = one.attributes
            if one.notes:
                line["notes"] = list(one.notes)
        file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


def _bare(file: TextIO, classes: Sequence[str]) -> Write:
    """The probabilities alone."""

    def write(one: Result) -> None:
        if isinstance(one, Prediction):
            file.write(json.dumps(one.probabilities) + "\n")

    return write


def _csv(file: TextIO, classes: Sequence[str]) -> Write:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["id", "start", "end", "label", *classes, "error"])

    def write(one: Result) -> None:
        if isinstance(one, Refusal):
            table.writerow([one.name, "", "", "", *[""] * len(classes), one.reason])
        else:
            cells = [one.probabilities.get(name, "") for name in classes]
            times = ["" if time is None else time for time in (one.start, one.end)]
            table.writerow([one.name, *times, one.label or "", *cells, ""])

    return write


def _table(file: TextIO, classes: Sequence[str]) -> Write:
    """Columns of words; refusals are left to the messages on stderr."""
    width = max(map(len, classes))
    headed = False

    def write(one: Result) -> None:
        nonlocal headed
        if isinstance(one, Refusal):
            return
        if not headed:
            file.write(f"{'':<{width}}  {' '.join(f'{name[:11]:>11}' for name in classes)}\n")
            headed = True
        cells = " ".join(
            f"{one.probabilities[name]:>11.4f}" if one.probabilities else f"{'':>11}"
            for name in classes
        )
        numbers = "".join(f"{name} {value:.2f}  " for name, value in one.attributes.items())
        file.write(f"{one.label or '(silent)':<{width}}  {cells}  {numbers}{_place(one)}\n")

    return write


def _place(one: Prediction) -> str:
    if one.start is None and one.end is None:
        return one.name
    end = "" if one.end is None else f"{one.end:.2f}"
    return f"{one.name}  {one.start or 0:.2f}-{end} s"


# Each is called with an open file and the classes, and gives a function that writes a result.
FORMATS: dict[str, Callable[[TextIO, Sequence[str]], Write]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "bare": _bare,
}
