"""What was asked for is what runs, or the run does not begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emo.distributed.config import RuntimeConfig, RuntimeMismatch
from emo.distributed.strategies import check_device
from shards.configfile import parse

CPU_ONLY = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"strategy": "gpu"}, "no CUDA device", marks=CPU_ONLY),
        pytest.param(
            {"strategy": "zero2", "precision": "fp16"}, "fp16 needs a GPU", marks=CPU_ONLY
        ),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"offload": True}, "offload belongs to ZeRO"),
        ({"strategy": "zero3", "precision": "fp64"}, "fp64 is for strategies cpu and gpu"),
        ({"strategy": "zero1", "compile": True}, "compile is for strategies cpu, gpu and fsdp"),
    ],
)
def test_settings_that_would_silently_become_others(settings, message):
    with pytest.raises(RuntimeMismatch, match=message):
        check_device(parse(RuntimeConfig, settings, where="test"))


@CPU_ONLY
@pytest.mark.parametrize("strategy", ["cpu", "gpu", "zero2", "fsdp"])
def test_gpus_that_the_launcher_found_and_torch_does_not_are_an_error(strategy, monkeypatch):
    config = parse(RuntimeConfig, {"strategy": strategy}, where="test")
    monkeypatch.setenv("EMO_DEVICE", "gpu")
    with pytest.raises(RuntimeMismatch, match="found GPUs, but torch sees no CUDA device"):
        check_device(config)
    if strategy != "gpu":
        monkeypatch.setenv("EMO_DEVICE", "cpu")
        check_device(config)


FSDP_WITH_BUFFERS = """
import torch
from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime
from emo.distributed.state import gather_weights

runtime = Runtime.start(RuntimeConfig(strategy="fsdp"), accumulation=1, micro_batch=4, clip=0.0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
model[1].running_mean.fill_(0.5)
wrapped, _ = runtime.prepare(model, torch.optim.Adam(model.parameters()))
assert gather_weights(runtime, wrapped)["1.running_mean"].tolist() == [0.5] * 4
print(type(wrapped).__name__)
"""


def test_fsdp_takes_models_with_buffers():
    """Started as launch/train.sh does; the launcher's own default would fail at them."""
    environment = os.environ | {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FSDP_WITH_BUFFERS],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("FSDP")


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together):
    """Runs for which the launcher and the configuration do not say the same."""
    folder = tmp_path_factory.mktemp("mismatches")

    def job(name, launched, env=None, **runtime):
        config = make_settings(tiny, folder / name, runtime=runtime, train__epochs=1)
        return {"strategy": launched, "config": config, "environment": env or {}}

    return together(
        folder,
        2,
        [
            job("processes", "cpu", processes=3),
            job("zero-not-launched", "cpu", strategy="zero2"),
            job("fsdp-not-launched", "cpu", strategy="fsdp"),
            job("zero-on-the-cpu-flag", "zero2", env={"ACCELERATE_USE_CPU": "true"}),
            job("precision", "cpu", env={"ACCELERATE_MIXED_PRECISION": "bf16"}),
        ],
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("processes", "processes: asked for 3, 2 run"),
        ("zero-not-launched", "zero2 was asked for, but this process was not launched for it"),
        ("fsdp-not-launched", "fsdp was asked for, but this process was not launched for it"),
        ("zero-on-the-cpu-flag", "strategy: asked for zero2, accelerate runs MULTI_CPU"),
    ],
)
def test_every_rank_stops_where_something_else_runs(name, message, found):
    for said in found[name].outcomes:
        assert message in said
    assert not (found[name].run / "config.yaml").exists()


def test_the_environment_does_not_change_the_precision(found):
    assert set(found["precision"].outcomes) == {"done"}
    assert found["precision"].weights()["fusion.head.weight"].dtype == torch.float32
