"""The comparison: right numbers, honest refusals, ceilings where the corpus knows them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from emo.comparison import tables
from emo.comparison.compare import compare
from emo.comparison.published import published_accuracy
from emo.comparison.result import CompareError, check_comparable, load_result, row_labels
from emo.comparison.rows import rows_of
from emo.evaluation.predictions import read_lines
from emo.metrics import METRICS, OF_CONFUSION
from emo.runs import files
from emo.runs.folder import RunError
from shards.errors import EXIT_USER_ERROR
from shards.store.index import CONFIG, TRUTH


def test_numbers_are_those_of_the_predictions(trained_runs, capsys, tmp_path):
    runs = list(trained_runs.values())
    compare(runs, "test", markdown=tmp_path / "t.md", csv=tmp_path / "t.csv")
    shown = capsys.readouterr().out
    for run in runs:
        lines = read_lines(run, "test")
        truth = [line["label"] for line in lines]
        said = [max(line["probabilities"], key=line["probabilities"].get) for line in lines]
        for score in (
            accuracy_score(truth, said),
            recall_score(truth, said, average="macro"),
            f1_score(truth, said, average="weighted"),
        ):
            assert f"{100 * score:.1f} [" in shown
            assert f"{100 * score:.1f} [" in (tmp_path / "t.md").read_text()
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4
    assert "the speaker of 100 %" in shown


def test_a_trained_model_beats_the_commonest_class(trained_runs):
    for run in trained_runs.values():
        result = load_result(run, "test")
        assert (result.turns.predicted == result.turns.labels).mean() > np.bincount(
            result.turns.labels
        ).max() / len(result.turns.labels)


def test_runs_of_unlike_protocols_are_refused(trained_runs, tmp_path):
    for key, value in (("view", "0" * 64), ("protocol", "another"), ("classes", ["a", "b", "c"])):
        other = tmp_path / key
        shutil.copytree(trained_runs["text"], other)
        facts = json.loads(files.metrics(other).read_text()) | {key: value}
        files.metrics(other).write_text(json.dumps(facts))
        results = [load_result(trained_runs["text"], "test")] * 2
        broken = results[1].__class__(**{**results[1].__dict__, "facts": facts, "run": other})
        with pytest.raises(CompareError, match="cannot be compared"):
            check_comparable([results[0], broken])


def test_a_fusion_is_also_shown_without_either_modality(trained_runs, tiny_corpus, capsys):
    """The numbers are those of predicting every test turn from one input."""
    from emo.serving.predict import Predictor

    run = trained_runs["fusion"]
    alone = json.loads(files.metrics(run).read_text())["parts"]["test"]["alone"]
    lines = read_lines(run, "test")
    texts = {
        row["id"]: row["text"]
        for row in map(json.loads, (tiny_corpus / "turns.jsonl").read_text().splitlines())
    }
    predictor = Predictor.from_run(run)
    [row] = rows_of([load_result(run, "test")])
    both = np.mean([max(p, key=p.get) == line["label"] for line in lines
                    for p in [line["probabilities"]]])  # fmt: skip
    for kept, given in (
        ("text", lambda name: (None, texts[name])),
        ("audio", lambda name: (tiny_corpus / f"{name}.wav", None)),
    ):
        said = [predictor.predict(*given(line["utterance"])) for line in lines]
        right = np.mean(
            [max(p, key=p.get) == line["label"] for p, line in zip(said, lines, strict=True)]
        )
        assert alone[kept]["wa"] == pytest.approx(right)
        assert alone[kept]["wa_to_both"] == pytest.approx(right - both)
        assert row[f"{kept}_alone"] == pytest.approx(100 * right)
    assert alone["text"]["wa"] != alone["audio"]["wa"]
    compare(list(trained_runs.values()), "test", markdown=None, csv=None)
    shown = capsys.readouterr().out
    assert "text only %" in shown
    assert f"{100 * alone['text']['wa']:.1f} (" in shown
    assert (
        "alone" not in json.loads(files.metrics(trained_runs["text"]).read_text())["parts"]["test"]
    )


def test_systems_are_named_by_what_is_not_the_papers(trained_runs):
    result = load_result(trained_runs["fusion"], "test")
    assert result.facts["kinds"] == {"text": "bert", "audio": "cnn", "fusion": "paper"}
    for kinds, name in (
        ({}, "the paper's"),
        ({"text": "roberta"}, "RoBERTa"),
        ({"audio": "dnn_elm"}, "DNN-ELM"),
        (
            {"text": "bert", "audio": "wavlm", "fusion": "cross_attention"},
            "WavLM + cross-attention",
        ),
    ):
        changed = result.__class__(
            **result.__dict__ | {"facts": result.facts | {"kinds": result.facts["kinds"] | kinds}}
        )
        assert changed.system == name


def test_shards_may_differ_and_the_corpus_may_not(trained_runs):
    one = load_result(trained_runs["text"], "test")
    for key, allowed in (("hash", True), ("corpus", False)):
        facts = one.facts | {"dataset": one.facts["dataset"] | {key: "0" * 64}}
        other = replace(one, facts=facts)
        if allowed:
            check_comparable([one, other])
        else:
            with pytest.raises(CompareError, match="differ in corpus"):
                check_comparable([one, other])


def test_table_three_has_modalities_by_systems():
    rows = [
        {"system": "the paper's", "reads": "text + audio", "wa": 82.84, "published": 76.9},
        {"system": "the paper's", "reads": "text", "wa": 74.9},
        {"system": "ICON", "reads": "text", "wa": 75.0, "ceiling": 75.7},
    ]
    assert tables.by_system(rows) == (
        ["WA %", "the paper's", "ICON"],
        [["text", "74.9", "75.0 (of 75.7)"], ["text + audio", "82.8 (paper 76.9)", "–"]],
    )
    assert tables.by_system(rows[:2]) is None


def test_every_table_fits_a_terminal_of_a_hundred_columns(capsys):
    row = {"run": "sample-bclstm-audio", "system": "bc-LSTM", "sees": "whole"}
    row |= {"reads": "text + audio", "ece_before": 10.04, "ece": 10.04, "js": 0.312}
    for name in OF_CONFUSION:
        row |= {name: 61.44, f"{name}_low": 57.24, f"{name}_high": 65.74}
    for name in ("text_alone", "audio_alone", "ceiling", "ceiling_alone", "published"):
        row |= {name: 60.94}
    for name in ("to_best", "to_ceiling", "text_alone_cost", "audio_alone_cost"):
        row |= {name: -27.84, f"{name}_se": 12.14}
    tables.show([row, row | {"system": "ICON"}], "title", [])
    shown = capsys.readouterr().out
    for word in (
        "61.4 [57.2, 65.7]",
        "-27.8 ± 12.1",
        "60.9 (-27.8 ± 12.1)",
        "10.0 → 10.0",
        "0.312",
    ):
        assert word in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 100


def test_the_papers_figures_stand_beside_iemocap_alone(trained_runs, tmp_path):
    """The label set, the reader, and that it is no sample corpus in IEMOCAP's layout."""
    one = load_result(trained_runs["text"], "test")
    assert published_accuracy(one) is None  # three classes, another reader
    (tmp_path / CONFIG).write_text("corpus: {reader: iemocap, root: /data}")
    facts = one.facts | {"classes": list("abcde"), "dataset": {"folder": str(tmp_path)}}
    assert published_accuracy(replace(one, facts=facts)) == 72.4
    (tmp_path / TRUTH).touch()
    assert published_accuracy(replace(one, facts=facts)) is None


def test_an_unfinished_run_is_named(trained_runs, tmp_path):
    with pytest.raises(RunError, match=r"nothing-here has no results"):
        compare([tmp_path / "nothing-here"], "test", markdown=None, csv=None)


def test_every_metric_stands_in_a_table_under_its_heading(trained_runs, tmp_path):
    compare([trained_runs["text"]], "test", markdown=tmp_path / "t.md")
    words = (tmp_path / "t.md").read_text()
    for metric in METRICS.values():
        if metric.of_confusion or metric.of_probabilities:
            assert f"| {metric.heading} " in words


def test_runs_of_one_name_are_told_apart_by_their_folders(trained_runs, tmp_path, capsys):
    one, copy = trained_runs["text"], tmp_path / "text"
    shutil.copytree(one, copy)
    other = trained_runs["audio"]
    results = [load_result(run, "test") for run in (one, copy, other)]
    parents = [one.parent.name, tmp_path.name]
    assert row_labels(results) == [f"{parents[0]}/text", f"{parents[1]}/text", "tiny-audio"]
    assert row_labels(results[1:]) == ["tiny-text", "tiny-audio"]
    assert row_labels(results[:1] * 2) == ["tiny-text", "tiny-text"]  # the same run twice
    compare([one, copy], "test")
    assert f"{parents[1]}/text" in capsys.readouterr().out


def test_a_misspelt_part_ends_with_a_suggestion(trained_runs, capsys):
    from emo.__main__ import main

    assert main(["compare", str(trained_runs["text"]), "--part", "tset"]) == EXIT_USER_ERROR
    assert "did you mean 'test'?" in capsys.readouterr().err


def test_paired_difference_to_oneself_is_nothing(trained_runs):
    same = [load_result(trained_runs["text"], "test")] * 2
    rows = rows_of(same)
    assert "to_best" not in rows[0] or rows[0]["to_best"] == 0


def test_the_command_line_says_what_is_wrong_and_exits_with_2(trained_runs, tmp_path, capsys):
    from emo.__main__ import main

    assert main(["compare", str(tmp_path)]) == EXIT_USER_ERROR
    assert main(["predict", str(tmp_path), "--text", "hi"]) == EXIT_USER_ERROR
    assert main(["export", str(tmp_path), str(tmp_path / "x")]) == EXIT_USER_ERROR
    assert main(["eval", str(tmp_path)]) == EXIT_USER_ERROR
    assert main(["predict", str(trained_runs["text"])]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert said.count("error: ") == 5
    assert "Traceback" not in said


def test_evaluating_again_changes_nothing(trained_runs, tmp_path):
    from emo.evaluation.reevaluate import evaluate_again

    run = tmp_path / "again"
    shutil.copytree(trained_runs["audio"], run)
    before = json.loads(files.metrics(run).read_text())["parts"]["test"]
    files.metrics(run).unlink()
    evaluate_again(run)
    after = json.loads(files.metrics(run).read_text())["parts"]["test"]
    assert after["confusion"] == before["confusion"]
    assert after["loss"] == pytest.approx(before["loss"], abs=1e-6)
