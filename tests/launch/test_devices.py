"""launch/train.sh decides the device, and every strategy trains on that device or says why not."""

import os

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="is about torch without a GPU")
TWO_GPUS = r"""#!/bin/sh
printf 'GPU 0: NVIDIA H100 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 (UUID: GPU-bb)\n'
"""


@pytest.fixture
def lists_two_gpus(tmp_path):
    """Variables for a machine whose nvidia-smi lists two GPUs, while its torch sees none."""
    program = tmp_path / "programs" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(TWO_GPUS)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.fixture
def no_list_of_visible_ones(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_list_of_visible_ones")
def test_gpus_that_torch_does_not_see_end_every_strategy_but_cpu(
    lab, tiny, tmp_path, lists_two_gpus
):
    runs = {
        strategy: lab.start(
            strategy, lab.settings(tiny, tmp_path / strategy), processes=1, **lists_two_gpus
        )
        for strategy in ("gpu", "zero1", "zero2", "zero3", "fsdp")
    }
    for strategy, run in runs.items():
        assert run.wait() == 2, strategy + run.output
        assert run.output.count("error:") == 1, strategy + run.output
        assert "found GPUs, but torch sees no CUDA device" in run.output
        assert "Traceback" not in run.output
        assert not (tmp_path / strategy / "checkpoints").exists()
    settings = lab.settings(tiny, tmp_path / "cpu", train__epochs=1)
    run = lab.train("cpu", settings, processes=1, **lists_two_gpus)
    assert run.process.returncode == 0, run.output


def test_zero_trains_on_the_cpu_where_the_gpus_are_hidden(lab, tiny, tmp_path, lists_two_gpus):
    settings = lab.settings(tiny, tmp_path / "run", train__epochs=1)
    hidden = lists_two_gpus | {"CUDA_VISIBLE_DEVICES": ""}
    run = lab.train("zero2", settings, processes=1, **hidden)
    assert run.process.returncode == 0, run.output
    assert "strategy zero2 · 1 process · fp32 · cpu" in run.output
