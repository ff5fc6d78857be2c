"""Adam's moments and step counts, read back; and which DeepSpeed their code was written against."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from emo.distributed import zero
from emo.distributed.state import MOMENTS, scatter_moments


def moments_of(model: torch.nn.Module, step: float) -> dict[str, torch.Tensor]:
    """As a checkpoint holds them: on the CPU."""
    result = {}
    for name, parameter in model.named_parameters():
        for key in MOMENTS:
            result[f"{name}/{key}"] = torch.full(parameter.shape, 2.0)
        result[f"{name}/step"] = torch.tensor(step)
    return result


def test_moments_and_counts_lie_where_the_weights_are() -> None:
    """Fused Adam on a GPU refuses a count on the CPU; `meta` stands for any other device."""
    model = torch.nn.Linear(3, 2, device="meta")
    optimizer = torch.optim.Adam(model.parameters())
    runtime: Any = SimpleNamespace(zero=False)
    scatter_moments(runtime, model, optimizer, moments_of(model, 7.0))
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert {key: state[key].device.type for key in (*MOMENTS, "step")} == {
            "exp_avg": "meta", "exp_avg_sq": "meta", "step": "meta"
        }  # fmt: skip
        assert state["step"].dtype == torch.float32


def test_sharded_moments_and_counts_lie_where_the_shards_are() -> None:
    """FSDP: a mesh of one rank, whose shards are on another device than the checkpoint."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = torch.nn.Linear(3, 2, device="meta")
        for name, parameter in list(model.named_parameters()):
            shard = DTensor.from_local(parameter.detach(), mesh, [Shard(0)])
            setattr(model, name, torch.nn.Parameter(shard))
        optimizer = torch.optim.Adam(model.parameters())
        runtime: Any = SimpleNamespace(zero=False)
        scatter_moments(runtime, model, optimizer, moments_of(model, 7.0))
        for parameter in model.parameters():
            state = optimizer.state[parameter]
            assert isinstance(state["exp_avg"], DTensor)
            assert {tensor.device.type for tensor in state.values()} == {"meta"}
    finally:
        dist.destroy_process_group()


def test_a_count_is_taken_over() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    runtime: Any = SimpleNamespace(zero=False)
    scatter_moments(runtime, model, optimizer, moments_of(model, 7.0))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert {float(state["step"]) for state in optimizer.state.values()} == {8.0}


def test_zero_makes_its_counts_where_the_flat_weights_are() -> None:
    flat = torch.nn.Parameter(torch.empty(6, device="meta"))
    adam = torch.optim.Adam([flat])
    zero.create_moments(adam, SimpleNamespace(), 5.0, MOMENTS)
    assert adam.state[flat]["step"].device.type == "meta"
    assert adam.state[flat]["exp_avg"].device.type == "meta"


@pytest.mark.parametrize("installed", [zero.READ_FROM, zero.READ_FROM + "+cu128"])
def test_the_version_that_private_parts_were_read_from_is_silent(installed: str) -> None:
    assert zero.check_version(installed) is None


def test_another_version_of_deepspeed_is_warned_of() -> None:
    said = zero.check_version("0.20.0")
    assert said is not None
    assert "DeepSpeed 0.20.0" in said
    assert f"deepspeed=={zero.READ_FROM}" in said


def test_the_installed_version_is_the_one_that_was_read() -> None:
    import deepspeed

    assert zero.check_version(deepspeed.__version__) is None
