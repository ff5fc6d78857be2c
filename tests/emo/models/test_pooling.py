"""Poolings against plain sums in float64, their gradients, and what padding may hold."""

import copy
import math

import pytest
import torch

from emo.models.audio.cnn import Cnn
from emo.models.audio.config import CnnConfig
from emo.models.branch import ModelError
from emo.models.pooling import FLOOR, POOLINGS, make_pooling

WIDTH, LENGTHS = 3, (4, 1, 6, 0)


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(4, 6, WIDTH, generator=generator, dtype=torch.float64)
    return states, torch.arange(6) < torch.tensor(LENGTHS)[:, None]


def made(kind, dtype=torch.float64):
    torch.manual_seed(0)
    return make_pooling(kind, WIDTH, "here").to(dtype)


def by_hand(pool, kind, states):
    """One turn with Python's floats; `states` are its valid places alone."""
    if not len(states):
        return [0.0] * pool.width
    share = [1 / len(states)] * len(states)
    if kind.startswith("attenti"):
        scores = [
            sum(v * math.tanh(z) for v, z in zip(pool.score.weight[0].tolist(), inner, strict=True))
            for inner in pool.inner(states).tolist()
        ]
        share = [math.exp(s) / sum(math.exp(one) for one in scores) for s in scores]
    columns = states.T.tolist()
    mean = [sum(a * x for a, x in zip(share, column, strict=True)) for column in columns]
    if "statistics" not in kind:
        return mean
    variance = [
        sum(a * (x - m) ** 2 for a, x in zip(share, column, strict=True))
        for column, m in zip(columns, mean, strict=True)
    ]
    return mean + [math.sqrt(max(FLOOR, one)) for one in variance]


@pytest.mark.parametrize("kind", POOLINGS)
def test_each_is_its_definition_and_padding_has_no_part(given, kind):
    states, mask = given
    pool = made(kind)
    expected = [by_hand(pool, kind, x[:n]) for x, n in zip(states, LENGTHS, strict=True)]
    found = pool(states, mask)
    assert found.shape == (4, pool.width)
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    longer = torch.cat([torch.where(mask[..., None], states, 1e4), torch.full((4, 5, 3), -7e3)], 1)
    wider = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], 1)
    torch.testing.assert_close(pool(longer, wider), found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", POOLINGS)
def test_gradients(given, kind):
    states, mask = given
    pool = made(kind)
    states.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool(x, mask), states)
    pool(states, mask).sum().backward()
    assert not states.grad[~mask].any()
    assert all(p.grad is not None for p in pool.parameters())


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_holds_long_turns(kind, dtype):
    states = 30 + torch.randn(2, 3000, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(3000) < torch.tensor([[3000], [2500]])
    found = made(kind, dtype)(states.to(dtype), mask)
    assert found.dtype == dtype
    expected = made(kind, torch.float32)(states.to(dtype).float(), mask)
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("kind", ["statistics", "attention", "attentive_statistics"])
def test_a_cnn_with_it_does_not_see_how_far_its_batch_is_padded(kind):
    torch.manual_seed(0)
    model = Cnn(CnnConfig(channels=(4, 6), pooling=kind, dropout=0.0), 4, 10).double()
    audio, mask = torch.randn(2, 9, 10).double(), torch.arange(9) < torch.tensor([[9], [5]])
    found = model(audio, mask).logits_BC
    longer = torch.nn.functional.pad(audio, (0, 0, 0, 7), value=3.0)
    torch.testing.assert_close(
        model(longer, torch.nn.functional.pad(mask, (0, 7))).logits_BC, found
    )
    torch.testing.assert_close(model(audio[1:, :5], mask[1:, :5]).logits_BC, found[1:])
    served = copy.deepcopy(model)
    # For a fusion that reads the frames: nothing waits for the gradient of the pooling.
    served.serve("states")
    assert not any(p.requires_grad for p in served.pool.parameters())


def test_an_unknown_one_is_named():
    with pytest.raises(ModelError, match=r"model\.audio\.pooling: no pooling 'atention': did you"):
        make_pooling("atention", 3, "model.audio.pooling")
