"""Runs on two corpora: alike on any number of processes, resumable, told corpus by corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from emo.__main__ import main
from emo.config import ExperimentConfig
from emo.data.corpora.union import open_data
from emo.evaluation.elsewhere.evaluate import evaluate_on
from emo.runs.folder import RunError
from emo.training.train import train
from shards.configfile import ConfigError, parse

CLASSES = ["anger", "happiness", "neutral", "sadness"]


@pytest.fixture(scope="module")
def experiment(two: tuple[Path, Path], make_settings: Any) -> Any:
    """Settings of a run on both corpora, or on those named."""

    def settings(run: Path, **changes: Any) -> dict[str, Any]:
        plain = {"dropout": 0.0, "data__shards": {str(two[0]): 1.0, str(two[1]): 1.0}}
        return dict(make_settings(two[0], run, **(plain | changes)))

    return settings


def trained(settings: dict[str, Any]) -> Path:
    assert train(parse(ExperimentConfig, settings, "the test")) == "done"
    return Path(settings["run"])


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["group"] == "train"]


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


@pytest.fixture(scope="module")
def runs(experiment: Any, together: Any, two: tuple[Path, Path], tmp_path_factory: Any) -> Any:
    """Mixed runs on two processes and one; a run on each fold of leave_one_corpus_out."""
    folder = tmp_path_factory.mktemp("mixed")
    fp64 = {"runtime": {"precision": "fp64"}, "train__label_smoothing": 0.1}
    soft = {"optim__lr": 0.02, "resume": "auto", "dropout": 0.1}

    def job(name: str, stop_at: int = 0, **changes: Any) -> dict[str, Any]:
        config = experiment(folder / name, **changes)
        return {"strategy": "cpu", "config": config, "stop_at": stop_at}

    found = together(
        folder, 2, [job("two", **fp64), job("whole", **soft), job("stopped", 11, **soft),
                    job("stopped", **soft)]
    )  # fmt: skip
    assert {one.outcome for one in found.values()} == {"done"}
    trained(experiment(folder / "one", runtime={"precision": "fp64", "strategy": "cpu"},
                       train__label_smoothing=0.1))  # fmt: skip
    view = {"labels": "four", "protocol": "leave_one_corpus_out", "val": 0.3, "fold": "bruno"}
    trained(experiment(folder / "without-bruno", data__view=view, optim__lr=0.02,
                       data__shards=[str(one) for one in two], train__epochs=6))  # fmt: skip
    return folder


def test_losses_agree_on_one_process_and_two(runs: Path) -> None:
    one, many = losses(runs / "one"), losses(runs / "two")
    assert len(one) == 16
    np.testing.assert_allclose(many, one, rtol=1e-10)


def test_a_stop_and_a_resume_inside_a_mixed_epoch_change_no_bit(runs: Path) -> None:
    newest = [max((runs / n / "checkpoints").glob("step-????????")) for n in ("whole", "stopped")]
    assert newest[0].name == newest[1].name
    for file in ("weights", "moments"):
        one, other = (load_file(folder / f"{file}.safetensors") for folder in newest)
        assert all(bool((one[name] == other[name]).all()) for name in one)


def test_a_run_records_its_corpora_and_their_passes(runs: Path, two: tuple[Path, Path]) -> None:
    facts = record(runs / "one")
    assert facts["dataset"]["hash"] == open_data(two).manifest.dataset_hash
    alba, bruno = facts["corpora"]
    assert (alba["name"], bruno["name"]) == ("alba", "bruno")
    assert (alba["absent"], bruno["absent"]) == ([], ["sadness"])
    rows = alba["training_rows"] + bruno["training_rows"]
    assert alba["passes"] == pytest.approx(rows / 2 / alba["training_rows"], abs=1 / 60)
    assert alba["passes"] < 1 < bruno["passes"]


def test_results_are_pooled_and_by_corpus(runs: Path) -> None:
    test = json.loads((runs / "one" / "metrics.json").read_text())["parts"]["test"]
    assert set(test["corpora"]) == {"alba", "bruno"}
    assert sum(one["n"] for one in test["corpora"].values()) == test["n"]
    hits = sum(one["wa"] * one["n"] for one in test["corpora"].values())
    assert hits == pytest.approx(test["wa"] * test["n"])
    assert test["corpora"]["bruno"]["labels"] == CLASSES[:3]
    lines = (runs / "one" / "predictions-test.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        impossible = line["probabilities"]["sadness"] == 0
        assert impossible == line["utterance"].startswith("bruno/")


def test_leave_one_corpus_out_tests_on_the_other_alone(runs: Path) -> None:
    facts = record(runs / "without-bruno")
    assert facts["protocol"] == "leave_one_corpus_out bruno"
    assert facts["corpora"][1]["training_rows"] == 0
    test = json.loads((runs / "without-bruno" / "metrics.json").read_text())["parts"]["test"]
    assert (list(test["corpora"]), test["n"]) == (["bruno"], 60)


def test_weights_of_corpora_may_not_change_in_a_resumed_run(
    runs: Path, experiment: Any, two: tuple[Path, Path]
) -> None:
    other = {str(two[0]): 1.0, str(two[1]): 2.0}
    settings = experiment(runs / "one", resume="auto", data__shards=other,
                          train__label_smoothing=0.1)  # fmt: skip
    with pytest.raises(ConfigError, match=r"weights were \[1.0, 1.0\], now \[1.0, 2.0\]"):
        train(parse(ExperimentConfig, settings, "the test"))


def test_on_other_data(
    runs: Path, experiment: Any, two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    alba = trained(experiment(tmp_path / "alba", data__shards=str(two[0]), train__epochs=6,
                              optim__lr=0.02))  # fmt: skip
    own = json.loads((alba / "metrics.json").read_text())["parts"]["test"]

    # Its own corpus: its own test part, with the very same result.
    again = json.loads((evaluate_on(alba, two[0]) / "metrics.json").read_text())["parts"]["test"]
    assert {name: again[name] for name in ("n", "wa", "ua", "loss", "confusion")} == {
        name: own[name] for name in ("n", "wa", "ua", "loss", "confusion")
    }

    # Another corpus: all of its clean turns; the correction is the formula.
    capsys.readouterr()
    assert main(["eval", str(alba), "--on", str(two[1])]) == 0
    said = capsys.readouterr().out
    assert "no turn has sadness" in said
    plain = alba / "on" / "bruno" / "predictions-test.jsonl"
    before = [json.loads(line) for line in plain.read_text().splitlines()]
    assert len(before) == 60
    facts = json.loads((plain.parent / "metrics.json").read_text())
    assert facts["turns"] == {"same_corpus": False, "unknown": {}, "absent": ["sadness"],
                              "trained_on": 0}  # fmt: skip
    assert main(["eval", str(alba), "--on", str(two[1]), "--prior", "test"]) == 0
    after = [json.loads(line) for line in plain.read_text().splitlines()]
    trained_on = record(alba)["loss"]["prior"]
    counts = {name: sum(one["label"] == name for one in before) for name in CLASSES}
    for one, other in zip(before, after, strict=True):
        z = {n: np.log(p) - np.log(trained_on[n]) + np.log(max(counts[n] / 60, 1e-12))
             for n, p in one["probabilities"].items()}  # fmt: skip
        total = sum(np.exp(value) for value in z.values())
        for name, value in z.items():
            assert other["probabilities"][name] == pytest.approx(np.exp(value) / total, abs=1e-6)

    # A label that the model does not know is stated and left out.
    three = {"anger": ["ang"], "happiness": ["hap"], "sadness": ["sad"]}
    few = trained(experiment(tmp_path / "few", data__shards=str(two[0]), train__epochs=1,
                             data__view={"labels": three, "test": 0.2, "val": 0.2}))  # fmt: skip
    capsys.readouterr()
    evaluate_on(few, two[1])
    assert "labels that the model does not know: neu: 12 turns left out" in capsys.readouterr().out

    # The matrix shows what there is, and a dash for what is not.
    assert main(["compare", "--matrix", str(alba), str(few), "--metric", "wa"]) == 0
    shown = capsys.readouterr().out
    assert "own test part" in shown
    assert "–" in shown
    assert f"{100 * own['wa']:.1f} [" in shown

    # A corpus among several that it was trained on: which turns are test turns cannot be told.
    with pytest.raises(RunError, match="its test part cannot be told"):
        evaluate_on(runs / "one", two[1])


def test_init_from_another_corpus_where_nothing_is_shared(
    experiment: Any, two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    branch = {"data__shards": str(two[1]), "train__epochs": 1}
    view = {"test": 0.2, "val": 0.2}
    common = {"anger": ["ang"], "happiness": ["hap"]}
    source = trained(experiment(tmp_path / "source", data__shards=str(two[0]), train__epochs=1,
                                data__view=view | {"labels": common}))  # fmt: skip
    init = {"text": str(source), "audio": str(source)}
    capsys.readouterr()
    trained(experiment(tmp_path / "taken", init=init, data__view=view | {"labels": common},
                       **branch))  # fmt: skip
    assert f"init: the text branch comes from {source}" in capsys.readouterr().out
    other = {"anger": ["ang"], "neutral": ["neu"]}
    with pytest.raises(RunError, match="its classes are anger, happiness, here anger"):
        trained(experiment(tmp_path / "unlike", init=init, data__view=view | {"labels": other},
                           **branch))  # fmt: skip
    with pytest.raises(RunError, match="may have the same recordings"):
        trained(experiment(tmp_path / "shared", init=init, data__view=view | {"labels": common}))
