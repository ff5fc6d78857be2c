"""What a shell still holds changes no configuration; what a configuration leaves open is found."""

import json

import pytest

from emo.distributed.config import RuntimeConfig, RuntimeMismatch
from emo.distributed.environment import variables
from emo.distributed.environment.launched import running
from shards.configfile import parse


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        ({"PMI_SIZE": "2"}, {}, "PMI_SIZE=2: mpirun's"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}, "OMPI_COMM_WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2"}, {}, "WORLD_SIZE=2: RANK, LOCAL_RANK, MASTER_ADDR not set"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "no launcher started this process"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, {}, "runtime.compile=true"),
        ({"ACCELERATE_TORCH_DEVICE": "cpu"}, {}, "runtime.strategy decides"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, {}, "no Megatron-LM"),
        ({"TORCHDYNAMO_DISABLE": "1"}, {"compile": True}, "runtime.compile=false"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {"strategy": "fsdp"}, "FSDP_OFFLOAD_PARAMS=true"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_a_shell_still_holds_is_refused_by_name(environment, settings, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeMismatch, match="the environment asks for something") as caught:
        variables.check(running(parse(RuntimeConfig, settings, where="test")), on_cpu=True)
    assert message in str(caught.value)


def test_harmless_words_of_launchers_are_taken(monkeypatch):
    for name, value in (("ACCELERATE_DYNAMO_BACKEND", "no"), ("TORCHDYNAMO_DISABLE", "1"),
                        ("FSDP_OFFLOAD_PARAMS", "false"), ("PMI_SIZE", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    variables.check(running(RuntimeConfig()), on_cpu=True)


def test_tf32_cannot_be_forced_on_a_gpu_and_means_nothing_on_a_cpu(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    variables.check(running(RuntimeConfig(strategy="fsdp")), on_cpu=True)
    with pytest.raises(RuntimeMismatch, match="NVIDIA_TF32_OVERRIDE=0: unset it"):
        variables.check(running(RuntimeConfig(strategy="fsdp")), on_cpu=False)


def test_settings_of_the_launcher_that_do_not_count_are_said(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    ours = {"train.accumulation": "1", "optim.clip": "0.0", "runtime.precision": "bf16"}
    said = variables.notes(ours)
    assert len(said) == 2
    assert said[0].endswith("ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4")
    assert said[1].startswith("note: runtime.precision counts (bf16)")
    assert variables.notes(ours | {"train.accumulation": "4", "runtime.precision": "fp16"}) == []


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_stage_of_zero_is_that_of_the_launchers_file(stage, monkeypatch, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}, "bf16": {"enabled": True}}))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))
    found = running(RuntimeConfig())
    assert (found.strategy, found.precision) == (f"zero{stage}", "bf16")
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
    assert running(RuntimeConfig()).strategy == f"zero{stage}"
    assert running(RuntimeConfig(strategy="cpu", processes=3)).processes == 3
