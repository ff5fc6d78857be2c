"""What was asked for is what runs, or the run does not begin."""

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
