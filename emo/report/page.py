"""The page: everything about some finished runs, put into the template.

It asks nothing from outside, and says so to the browser (its content security policy allows no
script and no address). Whatever comes from a corpus is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from emo.comparison.compare import Comparison
from emo.report import svg
from emo.report.sections.course import cost, course
from emo.report.sections.data import data_of
from emo.report.sections.hardest import hardest
from emo.report.sections.repeat import repeat
from emo.report.sections.scores import MOST, by_class, by_group, calibration
from emo.report.subject import Subject, subjects_of

TEMPLATES = Path(__file__).parent / "templates"


def page(comparison: Comparison, title: str) -> str:
    """The report as HTML."""
    subjects = subjects_of(comparison)
    style = (TEMPLATES / "style.css").read_text()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        style=Markup(style),  # ours, not a corpus'
        today=date.today().isoformat(),
        summary=summary(comparison, subjects),
        tables=comparison.tables(),
        notes=comparison.notes,
        data=[(names, data) for names, data in _data(subjects)],
        systems=[_system(one) for one in subjects],
        hardest=hardest(subjects),
        at_hand=any(one.dataset is not None for one in subjects),
        most=MOST,
    )


def summary(comparison: Comparison, subjects: Sequence[Subject]) -> str:
    """One or two sentences: which system is best, and by how much it is better than none."""
    best = max(subjects, key=lambda one: float(one.scores["wa"]))
    scores, classes = best.scores, best.turns.classes
    majority = max(row["support"] for row in scores["classes"].values()) / scores["n"]
    others = f" of {len(subjects)} systems" if len(subjects) > 1 else ""
    text = (
        f"{best.name} is the best{others}: it recognises {100 * scores['wa']:.1f} % of "
        f"{scores['n']} {best.results[0].part} turns (WA) in {len(classes)} classes, on average "
        f"{100 * scores['ua']:.1f} % of a class (UA). Always the commonest class would reach "
        f"{100 * majority:.1f} %."
    )
    return text.replace(" %", "\u00a0%")  # a number and its unit stay on one line


def _data(subjects: Sequence[Subject]) -> list[tuple[list[str], dict[str, Any]]]:
    """The data of each group of systems that were trained on the same."""
    groups: dict[tuple[str, str], list[Subject]] = {}
    for one in subjects:
        groups.setdefault((one.facts["dataset"]["hash"], one.facts["view"]), []).append(one)
    return [([one.name for one in group], data_of(group[0])) for group in groups.values()]


def _system(subject: Subject) -> dict[str, Any]:
    scores, turns = subject.scores, subject.turns
    diagram, trust = calibration(subject)
    first = subject.results[0]
    return {
        "name": subject.name,
        "reads": " + ".join(first.reads),
        "folds": len(subject.results),
        "folder": str(first.run.parent if subject.is_cross_validation else first.run),
        "curves": course(subject),
        "confusion": svg.confusion(
            scores["confusion"], turns.classes, f"{subject.name}: confusion matrix"
        ),
        "classes": by_class(subject),
        "groups": by_group(subject),
        "diagram": diagram,
        "trust": trust,
        "cost": cost(subject),
        "repeat": repeat(subject),
    }
