"""Exactness: the same experiment gives the same numbers under every strategy and world size."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from emo.models.model import EmotionModel
from emo.serving.export import export
from emo.serving.predict import Predictor

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))
from faults import recorded


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """The largest difference of any weight, over the largest weight.

    Without the biases of attention's keys: the softmax takes any such bias out again, so that their
    gradient is zero but for rounding, and Adam divides that noise by its own size.
    """
    assert one.keys() == two.keys()
    one, two = ({n: t for n, t in w.items() if "key.bias" not in n} for w in (one, two))
    largest = max(float(tensor.abs().max()) for tensor in one.values())
    return max(float((one[n].double() - two[n].double()).abs().max()) for n in one) / largest


def drift(one, two) -> float:
    """The norm of the difference of all weights; without keys' biases, see `distance`."""
    names = [n for n in one if "key.bias" not in n]
    return math.sqrt(sum(float(((one[n] - two[n]).double() ** 2).sum()) for n in names))


@pytest.mark.parametrize("world", [2, 3])
def test_float64_agrees_with_one_process_to_1e_9(results, world):
    one, many = results["fp64-1"], results[f"fp64-{world}"]
    assert len(one.losses) == 12
    assert one.weights()["fusion.head.weight"].dtype == torch.float64
    assert distance(one.weights(), many.weights()) < 1e-9
    np.testing.assert_allclose(list(many.losses.values()), list(one.losses.values()), rtol=1e-9)


def test_first_gradient_in_fp32_agrees_to_1e_5(results):
    # After one step Adam's first moment is a tenth of the gradient.
    gradients = [
        {k: v for k, v in results[f"gradient-{world}"].moments().items() if "/exp_avg" in k}
        for world in (1, 2)
    ]
    first = [{k: v for k, v in g.items() if k.endswith("/exp_avg")} for g in gradients]
    assert results["gradient-1"].state()["step"] == 1
    assert distance(*first) < 1e-5


def test_fp32_drifts_no_more_than_one_process_that_splits_its_batch(results):
    """Over 54 steps, against one process that sums over the very same micro-batches."""
    one = results["long-1"].weights()
    split = drift(results["long-split-1"].weights(), one)
    two = drift(results["long-2"].weights(), one)
    apart = drift(results["long-2"].weights(), results["long-split-1"].weights())
    norm = math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in one.values()))
    print(f"drift after 54 steps: 2 processes {two:.2e}, one process in two parts {split:.2e}, "
          f"between both {apart:.2e}, of weights of norm {norm:.2f}")  # fmt: skip
    assert len(results["long-2"].losses) == 54
    assert split > 2**-23 * norm  # it is more than the rounding of the weights themselves
    assert two <= 2 * split


@pytest.mark.parametrize("strategy", ["cpu", "zero1", "zero2", "zero3", "fsdp"])
def test_every_strategy_is_the_same_coupled_adam(results, strategy):
    one, adamw = results["cpu-1"].weights(), results["adamw-1"].weights()
    found = results[f"{strategy}-2"]
    assert found.outcome == "done"
    assert distance(found.weights(), one) < 2e-5
    assert distance(adamw, one) > 2e-3  # had it been AdamW in disguise, it would show
    np.testing.assert_allclose(
        list(found.losses.values()), list(results["cpu-1"].losses.values()), rtol=1e-4
    )


def test_accumulation_gives_the_same_steps(results):
    assert distance(results["accumulated-2"].weights(), results["cpu-1"].weights()) < 2e-5


@pytest.mark.parametrize("strategy", ["cpu", "zero2", "fsdp"])
def test_bf16_stays_within_two_percent_of_the_loss(results, strategy):
    fine = np.array(list(results["cpu-1"].losses.values()))
    coarse = np.array(list(results[f"bf16-{strategy}-2"].losses.values()))
    np.testing.assert_allclose(coarse, fine, rtol=0.02)
    assert abs(coarse / fine - 1).max() > 1e-5  # or else it was fp32 in silence


def test_fsdp_of_one_process_is_that_process(results):
    assert distance(results["fsdp-1"].weights(), results["cpu-1"].weights()) < 2e-5


@pytest.mark.parametrize("strategy", ["zero1", "zero3", "fsdp"])
def test_frozen_branches_stay_and_are_saved(results, strategy):
    found, start = results[f"frozen-{strategy}-2"], results["cpu-1"]
    assert found.weights().keys() == start.weights().keys()
    moved = {name.split("/")[0] for name in found.moments()}
    assert moved
    assert all(name.startswith("fusion.") for name in moved)


@pytest.mark.parametrize("strategy", ["cpu", "zero1", "zero2", "zero3", "fsdp"])
def test_evaluation_counts_every_turn_once(results, strategy):
    lines = (results[f"{strategy}-2"].run / "predictions-test.jsonl").read_text().splitlines()
    ids = [line.split('"utterance": "')[1].split('"')[0] for line in lines]
    assert len(ids) == len(set(ids)) == 24


@pytest.mark.parametrize(("name", "tolerance"), [("elastic", 1e-9), ("elastic-zero2", 2e-5)])
def test_another_number_of_processes_in_the_middle_of_an_epoch(results, name, tolerance):
    """2, then 1, then 3: every row once an epoch, and the losses of a run that never stopped."""
    whole, found = results[f"{name}-whole"], results[name]
    first, second, third = results["parts"][name]
    assert 3 <= len(first) < 6  # six steps an epoch
    assert len(first) < len(second)
    assert len(second) % 6
    assert len(third) == 24
    lines = recorded(results["records"][name])
    assert {line["rank"] for line in lines} == {0, 1, 2}
    for epoch in range(4):
        counts = Counter(r for line in lines if line["epoch"] == epoch for r in line["rows"])
        assert set(counts.values()) == {1}
        assert len(counts) == 144
    losses = [[run.losses[step] for step in range(1, 25)] for run in (found, whole)]
    np.testing.assert_allclose(*losses, rtol=max(tolerance, 1e-9) * 5)
    assert distance(found.weights(), whole.weights()) < tolerance


@pytest.mark.parametrize("strategy", ["zero1", "zero3", "fsdp"])
def test_a_stop_changes_nothing(results, strategy):
    found, whole = results[f"stopped-{strategy}"], results[f"{strategy}-2"]
    assert found.outcome == "done"
    assert all(tensor.equal(whole.weights()[n]) for n, tensor in found.weights().items())
    assert all(tensor.equal(whole.moments()[n]) for n, tensor in found.moments().items())


def test_a_checkpoint_of_one_strategy_is_one_of_every_other(results):
    assert results["crossed"].outcome == "done"
    assert distance(results["crossed"].weights(), results["cpu-2"].weights()) < 2e-5


def test_activation_checkpointing_changes_nothing(results):
    assert distance(results["recomputed-2"].weights(), results["cpu-2"].weights()) < 1e-6


EXPORTED = ["cpu-2", "zero1-2", "zero2-2", "zero3-2", "fsdp-2"]
EXPORTED += ["frozen-zero1-2", "frozen-zero3-2", "frozen-fsdp-2"]


@pytest.mark.parametrize("name", EXPORTED)
def test_export_holds_everything_and_predicts_the_same(results, name, tiny_corpus, tmp_path):
    """From the recording on, against what the strategy itself wrote of the same test turns."""
    run = results[name].run
    export(run, tmp_path / "out")
    model = EmotionModel.from_pretrained(tmp_path / "out")
    facts = json.loads((run / "metrics.json").read_text())
    best = model.state_dict()
    saved = results[name].weights_of(facts["checkpoint"])
    assert best.keys() == saved.keys()
    assert all(best[key].equal(saved[key]) for key in best)
    predictor = Predictor.from_export(tmp_path / "out")
    turns = [json.loads(line) for line in (tiny_corpus / "turns.jsonl").read_text().splitlines()]
    turns = {turn["id"]: turn for turn in turns}
    lines = (run / "predictions-test.jsonl").read_text().splitlines()
    for line in map(json.loads, lines[:8]):
        turn = turns[line["utterance"].split("/")[-1]]
        found = predictor.predict(tiny_corpus / turn["audio"], turn["text"])
        assert found == pytest.approx(line["probabilities"], abs=2e-5)
