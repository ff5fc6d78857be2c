"""Every loss against a plain float64 reference, one turn at a time, and its gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from emo.models.branch import ModelError
from emo.models.losses.config import LossConfig
from emo.models.losses.contrastive import contrastive
from emo.models.losses.objective import LOSSES, MASS_UNIT, Objective

CLASSES = ("anger", "happiness", "neutral", "sadness")
COUNTS = np.array([30.0, 100.0, 850.0, 20.0])
KINDS = ({"kind": "cross_entropy"}, {"kind": "kl"}, {"kind": "focal", "gamma": 2.0},
         {"kind": "focal", "gamma": 0.5})  # fmt: skip
WEIGHTS = ({}, *({"weights": "root", "weigh": how} for how in ("classes", "rows", "targets")))
SHIFTS = ({}, {"adjust": {"tau": 0.3, "gamma": 1.0}})


def configured(**settings):
    return TypeAdapter(LossConfig).validate_python(settings)


def objective(smoothing=0.0, output="scores", counts=COUNTS, **settings):
    return Objective(configured(**settings), CLASSES, counts, smoothing=smoothing, output=output)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    target = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    target[0] = torch.tensor([0, 0, 1.0, 0])
    target[1, 2:] = 0
    return logits, target / target.sum(1, keepdim=True), torch.tensor([1, 1, 0, 1, 1, 1]).bool()


def by_hand(logits, target, settings, smoothing):
    """The loss of one turn with Python's floats, as the definitions have it."""
    shares = [n / COUNTS.sum() for n in COUNTS]
    if "adjust" in settings:
        tau, gamma = settings["adjust"]["tau"], settings["adjust"]["gamma"]
        logits = [
            (n / max(COUNTS)) ** tau * z + gamma * math.log(share)
            for z, n, share in zip(logits, COUNTS, shares, strict=True)
        ]
    total = sum(math.exp(z) for z in logits)
    p = [math.exp(z) / total for z in logits]
    target = [t * (1 - smoothing) + smoothing / 4 for t in target]
    w = [1.0] * 4
    if "weights" in settings:
        w = [math.sqrt(1 / share) for share in shares]
        mean = sum(share * one for share, one in zip(shares, w, strict=True))
        w = [one / mean for one in w]
    how = settings.get("weigh")
    if how == "targets":
        target = [t * one for t, one in zip(target, w, strict=True)]
        target = [t / sum(target) for t in target]
        w = [1.0] * 4
    elif how == "rows":
        w = [sum(t * one for t, one in zip(target, w, strict=True))] * 4
    loss = 0.0
    for t, q, one in zip(target, p, w, strict=True):
        if settings["kind"] == "focal":
            loss -= one * t * (1 - q) ** settings["gamma"] * math.log(q)
        elif settings["kind"] == "kl":
            loss += one * (t * math.log(t / q) if t else 0.0)
        else:
            loss -= one * t * math.log(q)
    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("parts", itertools.product(KINDS, WEIGHTS, SHIFTS))
def test_each_is_its_definition_and_its_gradient_is_that_of_the_loss(rows, parts, smoothing):
    logits, target, valid = rows
    settings = parts[0] | parts[1] | parts[2]
    one = objective(smoothing, **settings)
    expected = sum(
        by_hand(z.tolist(), t.tolist(), settings, smoothing)
        for z, t, counts in zip(logits, target, valid, strict=True)
        if counts
    )
    logits.requires_grad_()
    assert one.of_rows({"scores": logits}, target, valid).item() == pytest.approx(expected, 1e-12)
    assert torch.autograd.gradcheck(
        lambda z: one.of_rows({"scores": z}, target, valid), logits, atol=1e-7
    )


@pytest.mark.parametrize("settings", KINDS)
def test_rows_that_do_not_count_add_nothing_whatever_they_hold(rows, settings):
    logits, target, valid = (x.clone() for x in rows)
    full = objective(0.1, **settings, weights="inverse", weigh="targets", adjust={})
    kept = full.of_rows({"scores": logits[valid]}, target[valid], valid[valid])
    logits[~valid], target[~valid] = math.nan, math.inf
    logits.requires_grad_()
    loss = full.of_rows({"scores": logits}, target, valid)
    loss.backward()
    torch.testing.assert_close(loss, kept, rtol=1e-14, atol=0)
    assert not logits.grad[~valid].any()
    assert logits.grad.isfinite().all()
    assert full.of_rows({"scores": logits}, target, valid & False).item() == 0


@pytest.mark.parametrize("settings", KINDS)
def test_a_certain_and_right_prediction_has_a_finite_gradient(settings):
    logits = torch.tensor([[0.0, 200.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    loss = objective(**settings).of_rows({"scores": logits}, target, torch.tensor([True]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()


def test_what_follows_from_the_definitions(rows):
    logits, target, valid = rows
    outputs = {"scores": logits}
    plain = objective().of_rows(outputs, target, valid)
    entropy = -torch.xlogy(target, target)[valid].sum()
    torch.testing.assert_close(
        objective(kind="kl").of_rows(outputs, target, valid), plain - entropy
    )
    torch.testing.assert_close(
        objective(kind="focal", gamma=0.0).of_rows(outputs, target, valid), plain
    )
    shifted = {"scores": logits + torch.from_numpy(np.log(COUNTS))}
    torch.testing.assert_close(
        objective(adjust={}).of_rows(outputs, target, valid),
        objective().of_rows(shifted, target, valid),
    )


def test_likelihoods_get_no_softmax(rows):
    logits, target, valid = rows
    loss = objective(output="log_likelihoods").of_rows({"scores": logits}, target, valid)
    torch.testing.assert_close(loss, -(target * logits)[valid].sum())


@pytest.mark.parametrize(("rule", "power"), [("inverse", 1.0), ("root", 0.5), ("effective", None)])
def test_class_weights(rule, power):
    weights = objective(weights=rule).weights_C
    assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())
    ratios = weights / weights[2]
    if power is not None:
        np.testing.assert_allclose(ratios, (COUNTS[2] / COUNTS) ** power, rtol=1e-12)
    else:
        beta = 999 / 1000
        np.testing.assert_allclose(ratios, (1 - beta ** COUNTS[2]) / (1 - beta**COUNTS), rtol=1e-12)
    if rule == "inverse":
        np.testing.assert_allclose(weights, COUNTS.sum() / (4 * COUNTS), rtol=1e-12)


def test_the_prior_that_a_loss_teaches():
    def prior(**settings):
        return np.array(list(objective(**settings).facts()["prior"].values()))

    np.testing.assert_allclose(prior(), COUNTS / 1000)
    for balanced in ({"weights": "inverse"}, {"adjust": {"gamma": 1.0}}):
        np.testing.assert_allclose(prior(**balanced), 0.25)
    np.testing.assert_allclose(
        prior(adjust={"gamma": 0.5}), np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()
    )


def test_the_mass_of_a_step_is_exact_in_any_order(rows):
    _, target, valid = rows
    assert objective(weights="inverse").mass(target, valid) * MASS_UNIT == 5
    one = objective(weights="inverse", mean="weights")
    whole = one.mass(target, valid)
    assert whole == sum(one.mass(target[[n]], valid[[n]]) for n in (4, 1, 0, 5, 3, 2))
    expected = (target[valid] @ torch.from_numpy(one.weights_C)).sum()
    assert whole * MASS_UNIT == pytest.approx(float(expected), 1e-6)


def test_wrong_weights_are_named():
    with pytest.raises(ModelError, match=r"there is no hapiness.*did you mean.*missing happiness"):
        objective(weights={"anger": 1, "hapiness": 1, "neutral": 1, "sadness": 1})
    empty = COUNTS * [1, 0, 1, 1]
    for settings in ({"weights": "root"}, {"adjust": {}}):
        with pytest.raises(ModelError, match="there is none of happiness"):
            objective(counts=empty, **settings)
    assert objective(counts=empty).weights_C is None
    for wrong in ({"beta": 0.9}, {"weigh": "rows"}, {"mean": "weights"}, {"weights": {"a": 0}}):
        with pytest.raises(ValueError, match="weights"):
            configured(**wrong)


def test_the_contrastive_term(rows):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = [0, 1, 0, 2, 1, 0]  # nobody is with the fourth
    target = torch.eye(4, dtype=torch.float64)[labels]
    config = configured(contrastive={"temperature": 0.5}).contrastive
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in vectors.tolist()]
    cosine = [[sum(a * b for a, b in zip(i, j, strict=True)) for j in unit] for i in unit]
    losses = []
    for i, label in enumerate(labels):
        others = [j for j in range(6) if j != i]
        alike = [j for j in others if labels[j] == label]
        below = sum(math.exp(cosine[i][j] / 0.5) for j in others)
        if alike:
            losses.append(
                -sum(math.log(math.exp(cosine[i][j] / 0.5) / below) for j in alike) / len(alike)
            )
    vectors.requires_grad_()
    found = contrastive(vectors, target, config)
    assert found.item() == pytest.approx(sum(losses) / 5, 1e-12)
    assert torch.autograd.gradcheck(lambda x: contrastive(x, target, config), vectors)
    for few in (1, 0):
        lonely = contrastive(vectors[:few], target[:few], config)
        assert lonely.item() == 0
        assert torch.autograd.grad(lonely, vectors)[0].isfinite().all()


def test_every_kind_is_tested_here():
    assert {one["kind"] for one in KINDS} == set(LOSSES)
