"""Rows of a comparison as tables in the terminal, Markdown and CSV."""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from emo.metrics import METRICS
from emo.modalities import MODALITIES

Row = dict[str, Any]
Word = Callable[[Row], str]  # the text of a row's cell; "" if it is empty


def with_interval(name: str) -> Word:
    """A metric with its 95 % interval."""
    return lambda row: f"{row[name]:.1f} [{row[name + '_low']:.1f}, {row[name + '_high']:.1f}]"


def _before_and_after(name: str) -> Word:
    """A metric of the probabilities, without the temperature and with it."""
    before, after = _number(f"{name}_before", 1), _number(name, 1)
    return lambda row: " → ".join(filter(None, (before(row), after(row))))


def difference(name: str) -> Word:
    """A difference and its standard error; empty for the row that the others are compared with."""
    return lambda row: f"{row[name]:+.1f} ± {row[name + '_se']:.1f}" if name in row else ""


def _one_modality(kept: str) -> Word:
    """A fusion's WA with only the modality `kept`, and the difference to both."""
    change, name = difference(f"{kept}_alone_cost"), f"{kept}_alone"
    return lambda row: f"{row[name]:.1f} ({change(row)})" if name in row else ""


def _number(name: str, places: int) -> Word:
    return lambda row: f"{row[name]:.{places}f}" if row.get(name) is not None else ""


SCORES = [metric for metric in METRICS.values() if metric.of_confusion]
# Tables by title, each narrow enough for a terminal of 100 columns; all begin with the run's name.
Topics = Mapping[str, dict[str, Word]]
TOPICS: Topics = {
    "": {
        "reads": lambda row: row["reads"],
        "sees": lambda row: row["sees"],
        **{metric.heading: with_interval(metric.name) for metric in SCORES[:3]},
    },
    # The first table has no room for a fourth interval.
    "More metrics": {metric.heading: with_interval(metric.name) for metric in SCORES[3:]},
    "Differences in WA": {
        "to the best": difference("to_best"),
        "ceiling %": _number("ceiling", 1),
        "to the ceiling": difference("to_ceiling"),
        "ceiling per turn %": _number("ceiling_alone", 1),
        "paper %": _number("published", 1),
    },
    "Probabilities, and one modality only": {
        **{
            metric.heading: _before_and_after(metric.name)
            for metric in METRICS.values()
            if metric.of_probabilities
        },
        "JS bits": _number("js", 3),
        **{f"{name} only %": _one_modality(name) for name in MODALITIES},
    },
}


def attribute_topics(rows: Sequence[Row]) -> Topics:
    """A table for each score of the attributes that a run predicts, one column an attribute."""
    keys = dict.fromkeys(key for row in rows for key in row)
    ends = ("_low", "_high", "_ceiling")
    names = [key[4:] for key in keys if key.startswith("ccc_") and not key.endswith(ends)]
    titles = {"ccc": "CCC of attributes", "pearson": "Their correlation", "rmse": "Their RMSE"}
    return {
        title: {name: _small_interval(f"{score}_{name}") for name in names}
        for score, title in titles.items()
        if names
    }


def _small_interval(name: str) -> Word:
    """A number around 1 with its 95 % interval, and its ceiling where that is known."""

    def word(row: Row) -> str:
        if name not in row:
            return ""
        ceiling = row.get(f"{name}_ceiling")
        of = "" if ceiling is None else f" of {ceiling:.3f}"
        return f"{row[name]:.3f} [{row[name + '_low']:.3f}, {row[name + '_high']:.3f}]{of}"

    return word


def cells(rows: Sequence[Row], columns: dict[str, Word]) -> tuple[list[str], list[list[str]]]:
    """Headings, and the cells of every row; columns that are empty in all rows are left out."""
    words = {name: [word(row) for row in rows] for name, word in columns.items()}
    words = {name: column for name, column in words.items() if any(column)}
    body = [
        [row["run"], *(column[place] or "–" for column in words.values())]
        for place, row in enumerate(rows)
    ]
    return ["run", *words], body


def by_system(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]] | None:
    """WA in the form of the paper's Table 3, modalities by systems; None for a single system.

    In brackets: the ceiling, if known, and the paper's figure, if comparable.
    """
    systems = list(dict.fromkeys(row["system"] for row in rows))
    if len(systems) < 2:
        return None
    reads = sorted({row["reads"] for row in rows}, key=("text", "audio", "text + audio").index)
    words = {(row["reads"], row["system"]): _wa(row) for row in rows}
    body = [[one, *(words.get((one, system), "–") for system in systems)] for one in reads]
    return ["WA %", *systems], body


def _wa(row: Row) -> str:
    beside = [f"of {row['ceiling']:.1f}"] if "ceiling" in row else []
    beside += [f"paper {row['published']:.1f}"] if "published" in row else []
    return f"{row['wa']:.1f}" + (f" ({', '.join(beside)})" if beside else "")


def show(rows: Sequence[Row], title: str, notes: Sequence[str], topics: Topics = TOPICS) -> None:
    """Print to the terminal; if the output goes to a file, 140 columns wide."""
    console = Console(width=None if Console().is_terminal else 140)
    for heading, names, body in all_tables(rows, title, topics):
        console.print(heading, style="bold", highlight=False)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in names:
            table.add_column(name, justify="left" if name in ("run", "reads", "sees") else "right")
        for line in body:
            table.add_row(*line)
        console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def markdown(rows: Sequence[Row], title: str, notes: Sequence[str], topics: Topics = TOPICS) -> str:
    """The tables of `show` in Markdown."""
    lines = []
    for heading, names, body in all_tables(rows, title, topics):
        lines += [f"**{heading}**", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        lines += ["| " + " | ".join(line) + " |" for line in body]
        lines.append("")
    return "\n".join([*lines, *(f"{note}  " for note in notes)]) + "\n"


def csv(rows: Sequence[Row]) -> str:
    """Every number of every row, unrounded."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv_module.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def all_tables(
    rows: Sequence[Row], title: str, topics: Topics
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Heading, column names and body of each table that is not empty for these rows."""
    every = {**topics, **attribute_topics(rows)}
    tables = [(topic or title, *cells(rows, columns)) for topic, columns in every.items()]
    tables = [one for one in tables if len(one[1]) > 1]
    systems = by_system(rows) if topics is TOPICS else None
    if systems is not None:
        tables.append(("Systems by modality", *systems))
    return tables
