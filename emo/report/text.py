"""The report as Markdown, for a pull request, and its tables in LaTeX, for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from emo.comparison.compare import Comparison
from emo.report.page import summary
from emo.report.sections.course import cost
from emo.report.sections.data import data_of
from emo.report.sections.repeat import repeat
from emo.report.sections.scores import by_class, calibration
from emo.report.subject import subjects_of

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "→": r"$\rightarrow$", "–": "--", "−": "$-$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def markdown(comparison: Comparison, title: str) -> str:
    """Tables, data, scores by class, cost, and how to repeat it; no pictures and no transcripts."""
    subjects = subjects_of(comparison)
    lines = [f"## {_md(title)}", "", _md(summary(comparison, subjects)), ""]
    for heading, names, body in comparison.tables():
        lines += [f"**{_md(heading)}**", "", *_table(names, body), ""]
    lines += [f"- {_md(note)}" for note in comparison.notes]
    data = data_of(subjects[0])
    lines += ["", "### Data", "", _md(f"{data['protocol']} · {data['folder']}"), ""]
    if data["parts"]:
        names = ["part", "turns", "dialogues", "speakers", "hours", "SNR"]
        rows = [[str(one[n if n != "SNR" else "snr"] if n != "part" else one["name"])
                 for n in names] for one in data["parts"]]  # fmt: skip
        lines += _table(names, rows)
    else:
        lines.append("The dataset is not at hand: only its identity is known.")
    lines += ["", "### Recall of each class %", ""]
    classes = [row["name"] for row in by_class(subjects[0])]
    lines += _table(
        ["run", *classes, "calibration"],
        [
            [
                one.name,
                *(f"{100 * row['recall']:.1f}" for row in by_class(one)),
                calibration(one)[1],
            ]
            for one in subjects
        ],
    )
    costs = {one.name: cost(one) for one in subjects}
    columns = list(dict.fromkeys(name for one in costs.values() for name in one))
    body = [[name, *(one.get(column, "") for column in columns)] for name, one in costs.items()]
    lines += ["", "### Cost", "", *_table(["run", *columns], body), "", "### How to repeat it", ""]
    for one in subjects:
        found = repeat(one)
        facts = " · ".join(f"{name} `{value[:12]}`" for name, value in found["facts"].items())
        lines += [f"**{_md(one.name)}** {facts}", "", "```bash", *found["commands"], "```", ""]
    return "\n".join(lines)


def latex(comparison: Comparison) -> str:
    r"""Every table of the comparison as a `table` for `\usepackage{booktabs}`."""
    blocks = []
    for heading, names, body in comparison.tables():
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(heading)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\toprule",
            " & ".join(map(_tex, names)) + r" \\", r"\midrule",
            *(" & ".join(map(_tex, row)) + r" \\" for row in body),
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        blocks.append("\n".join(lines))
    notes = "\n".join(f"% {note}" for note in comparison.notes)
    return "\n\n".join([r"% needs \usepackage{booktabs}", *blocks, notes]) + "\n"


def _table(names: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = [names, *body]
    lines = ["| " + " | ".join(map(_md, row)) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(names), *lines[1:]]


def _md(text: str) -> str:
    """`text` without a meaning in Markdown or HTML."""
    text = " ".join(str(text).split())
    for sign in "\\`*_[]<>|#":
        text = text.replace(
            sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign]
        )
    return text


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in str(text))
