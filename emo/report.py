"""`emo compare`: runs side by side on the same turns, beside the ceilings where they are known."""

from __future__ import annotations

import csv as csv_module
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emo import metrics, runfiles
from emo.evaluate import read_predictions
from shards import atomic
from shards.errors import UserError
from shards.index import TRUTH


class CompareError(UserError):
    """Runs that cannot stand in one table."""


@dataclass(frozen=True)
class Result:
    """One run's predictions of a part, in the order of the utterances' ids."""

    run: Path
    facts: dict[str, Any]
    utterances: list[str]
    labels: np.ndarray  # int [N]
    probabilities: np.ndarray  # [N, C]

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def modalities(self) -> str:
        parts = [p for p in ("text", "audio") if p in self.facts["model"]]
        return " + ".join(parts)


def load_result(run: Path, part: str) -> Result:
    """Read a finished run. Raises CompareError where it is none."""
    path = runfiles.metrics(run)
    if not path.is_file() or not runfiles.predictions(run, part).is_file():
        raise CompareError(f"{run} has no results: it is no run folder, or training has not ended")
    facts = json.loads(path.read_text())
    lines = sorted(read_predictions(run, part), key=lambda line: line["utterance"])
    classes = facts["classes"]
    return Result(
        run,
        facts,
        [line["utterance"] for line in lines],
        np.array([classes.index(line["label"]) for line in lines]),
        np.array([[line["probabilities"][c] for c in classes] for line in lines]),
    )


def check_alike(results: list[Result]) -> None:
    """Raises CompareError unless all runs predict the same turns under the same protocol."""
    first = results[0]
    for other in results[1:]:
        for what, a, b in (
            ("protocol", first.facts["protocol"], other.facts["protocol"]),
            ("dataset", first.facts["dataset"]["hash"][:12], other.facts["dataset"]["hash"][:12]),
            ("classes", first.facts["classes"], other.facts["classes"]),
            ("parts", first.facts["view"][:12], other.facts["view"][:12]),
        ):
            if a != b:
                raise CompareError(
                    f"{first.run} and {other.run} differ in {what} ({a} against {b}): their "
                    "numbers cannot be compared; train both on one data.shards and data.view"
                )
        if first.utterances != other.utterances:
            raise CompareError(
                f"{first.run} and {other.run} did not predict the same turns (damaged samples were "
                "skipped?); evaluate both again with `emo eval`"
            )


def ceilings(result: Result) -> dict[str, np.ndarray]:
    """The Bayes predictions int [N] of the same turns by kind; empty where they are not known."""
    path = Path(result.facts["dataset"]["folder"]) / TRUTH
    if not path.is_file():
        return {}
    from shards.corpora.truth import ceilings as exact
    from shards.labels import label_set

    found = exact(path, label_set(result.facts["label_codes"]))
    return {
        kind: np.array([int(np.argmax(table[u])) for u in result.utterances])
        for kind, table in found.items()
    }


KIND = {"text": "text", "audio": "audio", "text + audio": "both"}


def rows_of(results: list[Result]) -> list[dict[str, Any]]:
    """One row a run: scores in %, their intervals, the ceiling and the distance to it."""
    best = max(results, key=lambda r: float((r.predicted == r.labels).mean()))
    rows = []
    for result in results:
        classes = result.facts["classes"]
        full = metrics.evaluate(result.labels, result.probabilities, classes)
        interval = metrics.bootstrap(result.labels, result.predicted, len(classes))
        row: dict[str, Any] = {
            "run": result.facts["name"],
            "modalities": result.modalities,
            "n": full["n"],
            "ece": 100 * full["ece"],
        }
        for name in ("wa", "ua", "weighted_f1"):
            row[name] = 100 * full[name]
            row[f"{name}_low"], row[f"{name}_high"] = (100 * x for x in interval[name])
        if result is not best:
            paired = metrics.paired_difference(result.labels, result.predicted, best.predicted)
            row["to_best"], row["to_best_se"] = 100 * paired["difference"], 100 * paired["se"]
        known = ceilings(result).get(KIND[result.modalities])
        if known is not None:
            row["ceiling"] = 100 * float((known == result.labels).mean())
            paired = metrics.paired_difference(result.labels, result.predicted, known)
            row["to_ceiling"] = 100 * paired["difference"]
            row["to_ceiling_se"] = 100 * paired["se"]
        rows.append(row)
    return rows


HEADINGS = ("run", "reads", "WA %", "UA %", "weighted F1 %", "ECE %", "against the best",
            "Bayes ceiling WA %", "against the ceiling")  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """A row in words."""

    def with_interval(name: str) -> str:
        return f"{row[name]:.1f} [{row[name + '_low']:.1f}, {row[name + '_high']:.1f}]"

    def difference(name: str) -> str:
        return f"{row[name]:+.1f} ± {row[name + '_se']:.1f}" if name in row else "–"

    return [
        row["run"],
        row["modalities"],
        with_interval("wa"),
        with_interval("ua"),
        with_interval("weighted_f1"),
        f"{row['ece']:.1f}",
        difference("to_best"),
        f"{row['ceiling']:.1f}" if "ceiling" in row else "–",
        difference("to_ceiling"),
    ]


def compare(runs: list[Path], part: str, *, markdown: Path | None, csv: Path | None) -> None:
    """Print the table of `runs`; also write it as Markdown or CSV.

    Raises:
        CompareError: a run is unfinished, or two are not comparable.
    """
    results = [load_result(run, part) for run in runs]
    check_alike(results)
    rows = rows_of(results)
    facts = results[0].facts
    majority = np.bincount(results[0].labels).max() / len(results[0].labels)
    title = (
        f"{facts['protocol']} · {part} part, {rows[0]['n']} turns · {facts['dataset']['folder']}"
    )
    notes = [
        "In brackets: 95 % bootstrap intervals over turns. ± is one paired standard error.",
        f"Always the commonest class: WA {100 * majority:.1f} %. {overlap_line(facts, part)}",
    ]
    # Columns that say nothing for these runs are left out.
    used = [
        i
        for i in range(len(HEADINGS))
        if any(cells(row)[i] != "–" for row in rows) or i < len(HEADINGS) - 3
    ]
    table = Table(title=title, title_justify="left")
    for i in used:
        table.add_column(HEADINGS[i], justify="left" if i < 2 else "right")
    for row in rows:
        table.add_row(*[cells(row)[i] for i in used])
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    if markdown is not None:
        lines = [f"**{title}**", "", "| " + " | ".join(HEADINGS[i] for i in used) + " |"]
        lines.append("|" + "---|" * len(used))
        lines += ["| " + " | ".join(cells(row)[i] for i in used) + " |" for row in rows]
        atomic.write(markdown, ("\n".join([*lines, "", *notes]) + "\n").encode())
    if csv is not None:
        out = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv_module.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(rows)
        atomic.write(csv, out.getvalue().encode())


def overlap_line(facts: dict[str, Any], part: str) -> str:
    """What the part shares with the training part, in words."""
    shares = facts["overlap"][f"train-{part}"]
    return "Of these turns, training also has: " + ", ".join(
        f"the {what} of {100 * one['share']:.0f} %" for what, one in shares.items()
    )
