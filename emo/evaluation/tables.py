"""Rows of a comparison as a terminal's table, Markdown and CSV."""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def _with_interval(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:.1f} [{row[name + '_low']:.1f}, {row[name + '_high']:.1f}]"


def _difference(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:+.1f} ± {row[name + '_se']:.1f}" if name in row else ""


def _alone(kept: str) -> Callable[[Row], str]:
    """A fusion's WA where only one modality is there, and the difference to both."""
    change, name = _difference(f"{kept}_alone_cost"), f"{kept}_alone"
    return lambda row: f"{row[name]:.1f} ({change(row)})" if name in row else ""


def _number(name: str, places: int) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:.{places}f}" if row.get(name) is not None else ""


# Tables by topic, each narrow enough for a terminal of 100 columns; all begin with the run's name.
TOPICS: dict[str, dict[str, Callable[[Row], str]]] = {
    "": {
        "reads": lambda row: row["reads"],
        "sees": lambda row: row["sees"],
        "WA %": _with_interval("wa"),
        "UA %": _with_interval("ua"),
        "weighted F1 %": _with_interval("weighted_f1"),
    },
    "Differences in WA": {
        "to the best": _difference("to_best"),
        "ceiling %": _number("ceiling", 1),
        "to the ceiling": _difference("to_ceiling"),
        "ceiling alone %": _number("ceiling_alone", 1),
        "paper %": _number("published", 1),
    },
    "Probabilities, and a missing modality": {
        "ECE %": lambda row: f"{row['ece_before']:.1f} → {row['ece']:.1f}",
        "JS bits": _number("js", 3),
        "without audio %": _alone("text"),
        "without text %": _alone("audio"),
    },
}


def cells(
    rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]
) -> tuple[list[str], list[list[str]]]:
    """Headings and words of every row; columns that say nothing for these rows are left out."""
    used = [name for name, word in columns.items() if any(word(row) for row in rows)]
    body = [[row["run"], *(columns[name](row) or "–" for name in used)] for row in rows]
    return ["run", *used], body


def by_system(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]] | None:
    """WA in the shape of the paper's Table 3, modalities by systems; None for a single system.

    Behind it the ceiling where one is known, and the paper's own figure where it is comparable.
    """
    systems = list(dict.fromkeys(row["system"] for row in rows))
    if len(systems) < 2:
        return None
    reads = sorted({row["reads"] for row in rows}, key=("text", "audio", "text + audio").index)
    found = {(row["reads"], row["system"]): _wa(row) for row in rows}
    body = [[one, *(found.get((one, system), "–") for system in systems)] for one in reads]
    return ["WA %", *systems], body


def _wa(row: Row) -> str:
    more = [f"of {row['ceiling']:.1f}"] if "ceiling" in row else []
    more += [f"paper {row['published']:.1f}"] if "published" in row else []
    return " ".join([f"{row['wa']:.1f}", *([f"({', '.join(more)})"] if more else [])])


def show(rows: Sequence[Row], title: str, notes: Sequence[str]) -> None:
    """Print to the terminal; where the output goes to a file, wide enough for any name."""
    console = Console(width=None if Console().is_terminal else 140)
    for heading, (names, body) in _tables(rows, title):
        console.print(heading, style="bold", highlight=False)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in names:
            table.add_column(name, justify="left" if name in ("run", "reads", "sees") else "right")
        for line in body:
            table.add_row(*line)
        console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def markdown(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """The same as Markdown."""
    lines = []
    for heading, (names, body) in _tables(rows, title):
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


def _tables(rows: Sequence[Row], title: str) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
    found = [(topic or title, cells(rows, columns)) for topic, columns in TOPICS.items()]
    found = [(heading, (names, body)) for heading, (names, body) in found if len(names) > 1]
    pivot = by_system(rows)
    if pivot is not None:
        found.append(("Systems by modality", pivot))
    return found
