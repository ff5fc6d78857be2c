"""The optimizer's groups and the schedule, by their numbers."""

import pytest
import torch
from torch import nn

from emo.models.config import ModelConfig
from emo.models.model import EmotionModel
from emo.training.config import REST, GroupConfig, OptimConfig
from emo.training.optim import (
    OptimError,
    build_optimizer,
    learning_rate_factor,
    learning_rates,
    parameter_groups,
    set_learning_rates,
)
from shards.configfile import ConfigError, parse


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.text = nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
        self.text["encoder2"] = nn.Linear(1, 1)  # shares a prefix, but not a dotted part
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.text["head"](self.norm(self.text["encoder"](x)))


def config(**settings):
    return parse(OptimConfig, settings, where="test")


def train(model, optimizer, settings, steps, epoch):
    """`steps` of training; returns the encoder's weights before and after."""
    before = model.text["encoder"].weight.detach().clone()
    for step in range(steps):
        set_learning_rates(optimizer, step, 10, epoch, settings)
        torch.manual_seed(step)
        model(torch.randn(6, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, model.text["encoder"].weight.detach().clone()


def test_adam_is_torchs_coupled_one():
    """Three steps of the paper's Adam, its L2 term in the gradient, written out by hand."""
    model = Small()
    optimizer = build_optimizer(model, config(lr=1.5e-4, weight_decay=1e-3))
    assert type(optimizer) is torch.optim.Adam
    value = model.text["head"].weight.detach().double().clone()
    first = second = torch.zeros_like(value)
    for step in range(1, 4):
        torch.manual_seed(step)
        model(torch.randn(6, 3)).square().mean().backward()
        gradient = model.text["head"].weight.grad.double() + 1e-3 * value
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = (second / (1 - 0.999**step)).sqrt() + 1e-8
        value = value - 1.5e-4 * first / (1 - 0.9**step) / root
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(model.text["head"].weight.double(), value, rtol=0, atol=1e-8)


def test_an_optimizer_may_be_named_as_torch_names_it():
    assert config(name="AdamW") == config(name="adamw")


def test_adamw_by_name():
    optimizer = build_optimizer(Small(), config(name="adamw", betas=[0.8, 0.9], eps=1e-6))
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["eps"] == 1e-6


def test_groups_take_the_longest_match_and_only_what_trains():
    model = Small()
    model.text["encoder"].bias.requires_grad_(False)
    groups = parameter_groups(
        model,
        config(
            lr=1e-2,
            weight_decay=0.1,
            groups={
                "text": {"match": "text", "lr": 1e-3},
                "encoder": {"match": "text.encoder", "lr": 1e-5, "weight_decay": 0.0},
            },
        ),
    )
    found = {group["group"]: group for group in groups}
    assert {name: len(group["params"]) for name, group in found.items()} == {
        "encoder": 1,
        "text": 4,
        REST: 2,
    }
    assert found["encoder"]["params"][0] is model.text["encoder"].weight
    assert (found["encoder"]["lr"], found["text"]["lr"], found[REST]["lr"]) == (1e-5, 1e-3, 1e-2)
    assert (found["encoder"]["weight_decay"], found["text"]["weight_decay"]) == (0.0, 0.1)


def test_norms_and_biases_are_decayed_unless_asked_otherwise():
    everything = parameter_groups(Small(), config(weight_decay=0.1))
    assert [group["weight_decay"] for group in everything] == [0.1]
    spared = parameter_groups(Small(), config(weight_decay=0.1, decay_vectors=False))
    for group in spared:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0.0)
    assert sum(len(group["params"]) for group in spared) == 8


def test_a_group_that_matches_nothing_is_an_error():
    wanted = config(groups={"encoder": {"match": "audio.encoder", "lr": 1e-5}})
    with pytest.raises(OptimError, match=r"optim.groups.encoder: .*'audio.encoder'.*text.head"):
        parameter_groups(Small(), wanted)
    with pytest.raises(OptimError, match="no trainable parameter"):
        parameter_groups(Small().requires_grad_(False), config())


def test_a_waiting_group_stays_bit_for_bit_and_then_moves():
    settings = config(
        lr=1e-2,
        weight_decay=0.1,
        groups={"encoder": {"match": "text.encoder", "lr": 1e-2, "unfreeze_epoch": 1}},
    )
    for name in ("adam", "adamw"):
        model = Small()
        optimizer = build_optimizer(model, settings.model_copy(update={"name": name}))
        head = model.text["head"].weight.detach().clone()
        before, after = train(model, optimizer, settings, 3, epoch=0)
        assert torch.equal(before, after)
        assert not torch.equal(head, model.text["head"].weight)
        before, after = train(model, optimizer, settings, 1, epoch=1)
        step = (after - before).abs().max()
        assert 0 < step < 1.5e-2  # its moments are warm: no leap past its own rate


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_rise_to_one_and_end_at_final(schedule):
    settings = config(schedule=schedule, warmup_steps=10, final=0.1)
    factors = [learning_rate_factor(step, 100, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    if schedule == "constant":
        assert set(factors[10:]) == {1.0}
    else:
        assert factors[-1] == pytest.approx(0.1, abs=0.011)  # one step before the end
        assert factors[55] == pytest.approx(0.55, abs=0.02)  # half way down, both of them
        assert factors[10:] == sorted(factors[10:], reverse=True)


def test_warmup_as_a_fraction_and_the_shortest_runs():
    assert [learning_rate_factor(s, 4, config(warmup_fraction=0.5)) for s in range(4)] == [
        0.5,
        1.0,
        1.0,
        1.0,
    ]
    assert learning_rate_factor(0, 1, config(schedule="cosine")) == 1.0
    # A warm-up longer than the run never reaches the full rate, and does not fail.
    assert learning_rate_factor(4, 5, config(warmup_steps=10, schedule="linear")) == 0.5
    with pytest.raises(ValueError, match="outside"):
        learning_rate_factor(5, 5, config())


def test_rates_per_group():
    settings = config(
        lr=1e-2,
        schedule="linear",
        groups={"encoder": {"match": "text.encoder", "lr": 2e-5, "unfreeze_epoch": 2}},
    )
    assert learning_rates(5, 10, 1, settings) == pytest.approx({REST: 5e-3, "encoder": 0.0})
    assert learning_rates(5, 10, 2, settings) == pytest.approx({REST: 5e-3, "encoder": 1e-5})
    optimizer = build_optimizer(Small(), settings)
    set_learning_rates(optimizer, 5, 10, 2, settings)
    assert {g["group"]: g["lr"] for g in optimizer.param_groups} == pytest.approx(
        {REST: 5e-3, "encoder": 1e-5}
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": 5, "warmup_fraction": 0.1}, "not both"),
        ({"groups": {"rest": {"match": "text", "lr": 1}}}, "is taken"),
        ({"groups": {"a": {"match": "t", "lr": 1}, "b": {"match": "t", "lr": 2}}}, "same param"),
        ({"betas": [0.9, 1.0]}, "below 1"),
        ({"name": "sgd"}, "name"),
        ({"weight_deacy": 0.1}, "did you mean 'weight_decay'"),
    ],
)
def test_settings_that_contradict_themselves(settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_group_configs_are_strict():
    with pytest.raises(ConfigError, match="did you mean 'match'"):
        parse(GroupConfig, {"matches": "text", "lr": 1.0}, where="test")


def test_each_layer_of_an_encoder_learns_at_a_factor_of_the_one_above():
    sizes = {"hidden": 8, "layers": 3, "heads": 2, "intermediate": 8, "positions": 16}
    model = EmotionModel(parse(ModelConfig, {"text": {"build": sizes}}, "the test"), 4, {"text": 9})
    group = {"text": GroupConfig(match="text.encoder", lr=1e-3)}
    settings = config(lr=1e-2, layer_decay=0.5, groups=group, decay_vectors=False)
    optimizer = build_optimizer(model, settings)
    set_learning_rates(optimizer, 0, 10, 0, settings)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == dict(model.named_parameters()).keys()
    expected = {"embeddings": 1e-3 / 16, "layer.0": 1e-3 / 8, "layer.1": 1e-3 / 4,
                "layer.2": 1e-3 / 2, "head": 1e-2}  # fmt: skip
    for name, rate in rates.items():
        assert rate == pytest.approx(next(r for part, r in expected.items() if part in name)), name
    plain = build_optimizer(model, config(lr=1e-2, groups=group))
    assert len(plain.param_groups) == 2
