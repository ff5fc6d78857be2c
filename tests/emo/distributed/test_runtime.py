"""What was asked for is what runs, or the run does not begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from emo.distributed.config import RuntimeConfig, RuntimeMismatch
from emo.distributed.environment.launched import running
from emo.distributed.strategies import check_device, layers_of, set_numerics
from emo.models.config import ModelConfig
from emo.models.model import EmotionModel
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
        check_device(running(parse(RuntimeConfig, settings, where="test")))


@CPU_ONLY
@pytest.mark.parametrize("strategy", ["cpu", "gpu", "zero1", "zero2", "zero3", "fsdp"])
def test_gpus_that_the_launcher_found_and_torch_does_not_are_an_error(strategy, monkeypatch):
    config = running(parse(RuntimeConfig, {"strategy": strategy}, where="test"))
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


def alone(program: str, **more: str) -> str:
    """What `program` prints as the one rank of a launch."""
    environment = os.environ | {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    } | more  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


FSDP = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "DS_ACCELERATOR": "cpu"}


def test_fsdp_takes_models_with_buffers():
    """Started as launch/train.sh does; the launcher's own default would fail at them."""
    said = alone(FSDP_WITH_BUFFERS, **FSDP, FSDP_CPU_RAM_EFFICIENT_LOADING="true")
    assert said.startswith("FSDP")


ONE_STEP_IN_BF16 = """
import sys, torch
from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime

config = RuntimeConfig(strategy=sys.argv[1], precision="bf16")
runtime = Runtime.start(config, accumulation=1, micro_batch=4, clip=0.0)
model = torch.nn.Linear(3, 4)
wrapped, optimizer = runtime.prepare(model, torch.optim.Adam(model.parameters()))
seen = []
model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
loss = wrapped(torch.ones(4, 3).to(runtime.dtype)).float().sum()
print(seen[0], runtime.accelerator.distributed_type.value, end=" ")
if config.strategy == "fsdp":
    policy = wrapped._get_fsdp_state()._mp_policy
    print(policy.reduce_dtype, policy.output_dtype, policy.cast_forward_inputs)
else:
    print(wrapped.communication_data_type, wrapped.get_data_types()[1])
"""


@pytest.mark.parametrize(
    ("strategy", "launched", "said"),
    [
        # What accelerate calls FSDP stays that once it has wrapped something, as on a GPU.
        ("fsdp", FSDP, "torch.bfloat16 FSDP torch.float32 None False"),
        ("zero1", ZERO, "torch.bfloat16 DEEPSPEED torch.float32 torch.float32"),
        ("zero2", ZERO, "torch.bfloat16 DEEPSPEED torch.float32 torch.float32"),
        ("zero3", ZERO, "torch.bfloat16 DEEPSPEED torch.float32 torch.float32"),
    ],
)
def test_bf16_reduces_and_adds_up_gradients_in_float32(strategy, launched, said):
    program = ONE_STEP_IN_BF16.replace("sys.argv[1]", repr(strategy))
    assert alone(program, **launched).strip().splitlines()[-1] == said


@pytest.fixture
def torch_settings():
    """Gives torch back what `set_numerics` changes."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("settings", [{"tf32": True}, {"tf32": False}, {}])
def test_tf32_is_one_setting_for_products_and_convolutions(settings, torch_settings):
    set_numerics(running(RuntimeConfig(strategy="cpu", **settings)))
    wanted = settings.get("tf32", False)  # by default only on a GPU
    assert torch.backends.cuda.matmul.allow_tf32 is wanted
    assert torch.backends.cudnn.allow_tf32 is wanted


def test_determinism_is_asked_for_and_given_back(torch_settings, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_numerics(running(RuntimeConfig()))
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    set_numerics(running(RuntimeConfig(deterministic=True)))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that its end takes it away


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together):
    """Runs for which the launcher and the configuration do not say the same."""
    folder = tmp_path_factory.mktemp("mismatches")

    def job(name, launched, env=None, **runtime):
        config = make_settings(tiny, folder / name, runtime=runtime, train__epochs=1)
        return {"strategy": launched, "config": config, "environment": env or {}}

    left = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
            "PMI_SIZE": "3"}  # fmt: skip
    return together(
        folder,
        2,
        [
            job("processes", "cpu", processes=3),
            job("plain", "cpu"),
            job("zero-not-launched", "cpu", strategy="zero2"),
            job("fsdp-not-launched", "cpu", strategy="fsdp"),
            job("zero-on-the-cpu-flag", "zero2", env={"ACCELERATE_USE_CPU": "true"}),
            job("precision", "cpu", env=left, precision="fp32"),
            job("as-launched", "cpu", env={"ACCELERATE_MIXED_PRECISION": "bf16"}),
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


def test_the_environment_does_not_change_what_the_configuration_says(found):
    assert set(found["precision"].outcomes) == {"done"}
    recorded = yaml.safe_load((found["precision"].run / "config.yaml").read_text())
    assert recorded["runtime"]["precision"] == "fp32"
    # With 4 steps of accumulation left in the shell, ranks would train apart: nothing would be
    # exchanged in the steps between.
    one, two = (found[name].losses[2] for name in ("precision", "plain"))
    assert one == two


def test_a_precision_that_is_left_open_is_the_launchers(found):
    assert set(found["as-launched"].outcomes) == {"done"}
    recorded = yaml.safe_load((found["as-launched"].run / "config.yaml").read_text())
    assert recorded["runtime"]["precision"] == "bf16"


def test_fsdp_gathers_layer_by_layer(make_settings, tmp_path):
    raw = make_settings(tmp_path, tmp_path / "run")["model"]
    model = EmotionModel(parse(ModelConfig, raw, "test"), 4, {"text": 100, "audio": 16})
    assert layers_of(model) == ["BertLayer", "ConvolutionBlock"]
    assert layers_of(torch.nn.Linear(2, 2)) == []
