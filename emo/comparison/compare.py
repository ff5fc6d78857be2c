"""`emo compare`: runs side by side on the same turns, with the ceilings where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo.comparison import cross_validations, tables
from emo.comparison.ceilings import bayes_predictions
from emo.comparison.result import Result, check_part, load_results
from emo.comparison.rows import needs_grouping, rows_of
from shards import atomic


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, or cross-validations: `rows` and `topics` make the tables.

    Attributes:
        systems: by the name of its row, the results of the run, or of each fold.
    """

    systems: dict[str, list[Result]]
    rows: list[tables.Row]
    title: str
    notes: list[str]
    topics: tables.Topics

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Heading, column names and body of each table."""
        return tables.all_tables(self.rows, self.title, self.topics)


def comparison_of(runs: Sequence[Path], part: str) -> Comparison:
    """The comparison of `runs`: all of them are runs, or all are folders of cross-validations.

    Raises:
        CompareError: two runs are not comparable, or there is no such part.
        RunError: a run is not finished.
    """
    if any(map(cross_validations.is_cross_validation, runs)):
        check_part(part)
        found = cross_validations.open_all(runs, part)
        rows, topics = cross_validations.rows_of(found), cross_validations.TOPICS
        title, notes = cross_validations.title_of(found, part), cross_validations.notes_of(found)
        results = [list(one.folds.values()) for one in found]
    else:
        plain = load_results(runs, part)
        rows, topics = rows_of(plain), tables.TOPICS
        title, notes = title_of(plain[0]), notes_of(plain)
        results = [[one] for one in plain]
    names = [row["run"] for row in rows]
    return Comparison(dict(zip(names, results, strict=True)), rows, title, notes, topics)


def compare(
    runs: Sequence[Path], part: str, *, markdown: Path | None = None, csv: Path | None = None
) -> None:
    """Print the tables of `runs`, and write them to the files `markdown` and `csv` if given.

    Raises:
        CompareError, RunError: as `comparison_of`.
    """
    found = comparison_of(runs, part)
    tables.show(found.rows, found.title, found.notes, found.topics)
    if markdown is not None:
        text = tables.markdown(found.rows, found.title, found.notes, found.topics)
        atomic.write(markdown, text.encode())
    if csv is not None:
        atomic.write(csv, tables.csv(found.rows).encode())


def title_of(result: Result) -> str:
    """The title of the tables: protocol, part, size and dataset."""
    facts, turns = result.facts, len(result.turns.labels)
    folder = facts["dataset"]["folder"]
    return f"{facts['protocol']} · {result.part} part, {turns} turns · {folder}"


def notes_of(results: Sequence[Result]) -> list[str]:
    """How to read the tables, what chance and people reach, what training has of the part."""
    first = results[0]
    labels, human = first.turns.labels, first.scores["agreement"]["human"]
    majority = 100 * np.bincount(labels).max() / len(labels)
    seen = first.facts["overlap"][f"train-{first.part}"].items()
    grouped = needs_grouping(results)
    notes = [
        f"In brackets: 95 % bootstrap intervals over {'dialogues' if grouped else 'turns'}; "
        "± is one paired standard error on the same turns.",
        f"Always the commonest class: WA {majority:.1f} %."
        + (
            f" One annotator against the others, where they agree: {100 * human['wa']:.1f} % of "
            f"{human['n']} votes."
            if human["wa"] is not None
            else ""
        ),
        "Of these turns, training also has: "
        + ", ".join(f"the {what} of {100 * one['share']:.0f} %" for what, one in seen)
        + ".",
    ]
    if any("alone" in result.scores for result in results):
        notes.append("One modality only: the same fusion's WA where it is given nothing else.")
    if grouped:
        notes.append("Besides the turn itself, ICON sees the past, bc-LSTM the whole dialogue.")
    if any(bayes_predictions(result) is not None for result in results):
        notes.append(
            "Ceiling: the Bayes predictions of the same turns from the same evidence, by the known "
            "process behind the corpus; ceiling per turn: from each turn without its context."
        )
    systems = {result.system for result in results}
    stay_below = [system for system in ("BiLSTM", "DNN-ELM") if system in systems]
    if stay_below:
        notes.append(
            f"{' and '.join(stay_below)} cannot reach the ceiling by design: their files in "
            "emo/models/audio say why."
        )
    return notes
