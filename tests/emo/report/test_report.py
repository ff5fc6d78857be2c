"""Reports of real runs: what is in them, and what must not be."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo.comparison.compare import comparison_of
from emo.figures.turns import Turns
from emo.report import svg, text
from emo.report.page import page
from emo.report.report import ReportError, report
from emo.report.sections.course import seconds_of
from emo.report.sections.hardest import hardest
from emo.report.sections.scores import wilson
from emo.report.subject import subjects_of
from emo.runs import files


class Elements(HTMLParser):
    """All tags with their attributes, all text, and what is still open at the end."""

    VOID = ("meta", "link", "img", "br", "line", "rect", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, Any]]:
        return [found for name, found in self.tags if name == tag]


@pytest.fixture(scope="module")
def three(trained_runs: dict[str, Path]) -> list[Path]:
    return list(trained_runs.values())


@pytest.fixture(scope="module")
def html(three: list[Path]) -> str:
    return page(comparison_of(three, "test"), "A report")


def test_the_page_is_whole_and_asks_nothing_from_outside(html: str) -> None:
    found = Elements(html)
    assert found.open == []
    sources = [one.get(key) for _, one in found.tags for key in ("src", "href") if one.get(key)]
    assert sources
    assert all(one.startswith(("data:", "#")) for one in sources)
    assert not re.search(r"url\(|@import|<script", html)
    [policy] = [one for one in found.of("meta") if "http-equiv" in one]
    assert "default-src 'none'" in policy["content"]


def test_it_shows_what_the_runs_have_recorded(html: str, three: list[Path]) -> None:
    words = " ".join(Elements(html).words)
    for run in three:
        facts = json.loads(files.metrics(run).read_text())
        test = facts["parts"]["test"]
        assert facts["name"] in words
        assert facts["dataset"]["hash"] in words
        assert f"{100 * test['wa']:.1f} [" in words
        for name, row in test["classes"].items():
            assert name in words
            assert f"{100 * row['recall']:.1f}" in words
        weights = json.loads(
            (files.checkpoints(run) / facts["checkpoint"] / "manifest.json").read_text()
        )["files"]["weights.safetensors"]["sha256"]
        assert weights in words
    assert "launch/train.sh" in words


def test_the_hardest_turns_are_seen_heard_and_read(html: str, three: list[Path]) -> None:
    found = Elements(html)
    assert len(found.of("audio")) == len(found.of("img")) == 10
    assert all(one["src"].startswith("data:audio/mpeg;base64,") for one in found.of("audio"))
    subjects = subjects_of(comparison_of(three, "test"))
    turns = subjects[0].turns
    rows = np.arange(len(turns.labels))
    truth = np.mean([one.turns.probabilities[rows, turns.labels] for one in subjects], axis=0)
    assert [one.name for one in hardest(subjects)] == [
        turns.utterances[place] for place in np.argsort(truth, kind="stable")[:10]
    ]


def test_what_comes_from_a_corpus_is_escaped(
    three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = '</style><script>alert("1")</script><img src=x onerror=alert(2)>'
    own = Turns.facts
    monkeypatch.setattr(
        Turns, "facts", lambda self, name: own(self, name) | {"text": evil, "speaker": evil}
    )
    comparison = comparison_of(three[:1], "test")
    html = page(comparison, evil)
    assert Elements(html).of("script") == []
    assert not any("onerror" in one for _, one in Elements(html).tags)
    assert "&lt;script&gt;" in html
    said = text.markdown(comparison, evil)
    assert "<script>" not in said


def test_without_its_dataset_a_run_is_reported_and_that_is_said(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_runs["audio"], run)
    facts = json.loads(files.metrics(run).read_text())
    facts["dataset"]["folder"] = str(tmp_path / "gone")
    files.metrics(run).write_text(json.dumps(facts))
    found = page(comparison_of([run], "test"), "A report")
    assert "The dataset is not at hand" in found
    assert Elements(found).of("audio") == []
    assert f"{100 * facts['parts']['test']['ua']:.1f}" in found


def test_a_cross_validation_is_one_system(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("fold-1", "fold-2"):
        shutil.copytree(trained_runs["text"], tmp_path / name)
    folds = {"fold-1": {}, "fold-2": {}}
    (tmp_path / files.CROSSVAL).write_text(json.dumps({"folds": folds}))
    comparison = comparison_of([tmp_path], "test")
    [subject] = subjects_of(comparison)
    one = json.loads(files.metrics(tmp_path / "fold-1").read_text())["parts"]["test"]
    assert subject.scores["n"] == 2 * one["n"]
    assert subject.scores["wa"] == pytest.approx(one["wa"])
    words = " ".join(Elements(page(comparison, "A report")).words)
    assert "2 folds" in words
    assert "every fold" in words


def test_markdown_and_latex_have_the_same_tables(three: list[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / "report.md", tmp_path / "table.tex"]
    report(three, outputs, "test", "A report")
    comparison = comparison_of(three, "test")
    said, tex = (one.read_text() for one in outputs)
    for heading, names, body in comparison.tables():
        assert heading.replace("_", r"\_") in said
        for row in body:
            assert all(cell.replace("[", r"\[").replace("]", r"\]") in said for cell in row)
            assert text._tex(row[1]) in tex
        assert text._tex(names[-1]) in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == len(comparison.tables())
    lines = [line for line in tex.splitlines() if not line.startswith("% ")]
    assert not any(re.search(r"(?<!\\)[%_#]", line) for line in lines)


def test_an_ending_that_no_report_has_is_named(three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"report\.pdf: a report is written as \.html, \.md"):
        report(three, [tmp_path / "report.pdf"], "test", "A report")


def test_time_between_launches_does_not_count() -> None:
    def line(at: float, **more: float) -> dict[str, Any]:
        return {"time": at, "step": 1, "group": "train", **more}

    log = [line(110, launched=100.0), line(150), line(1010, launched=1000.0), line(1060)]
    assert seconds_of(log) == 50 + 60
    assert seconds_of([line(110), line(150)]) == 40  # of an older program


def test_wilsons_interval() -> None:
    # By his formula: 8 of 10.
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (71.2, 75.9, [70, 72, 74, 76]),
        (3, 3, [2.5, 2.75, 3, 3.25, 3.5]),
    ],
)
def test_ticks_are_round_and_span_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert svg.nice_ticks(low, high) == ticks
