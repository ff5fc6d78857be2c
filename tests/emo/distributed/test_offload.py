"""ZeRO with its optimizer in the CPU's memory: DeepSpeed's own Adam, in the paper's coupled form.

In a group of its own: the first use compiles the optimizer, which takes a minute or two.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together):
    folder = tmp_path_factory.mktemp("offload")

    def job(name, strategy="cpu", offload=True, stop_at=0, **changes):
        runtime = {"offload": True} if offload else {}
        config = make_settings(
            tiny, folder / name, dropout=0.0, resume="auto", runtime=runtime, **changes
        )
        return {"strategy": strategy, "config": config, "stop_at": stop_at}

    jobs = [
        job("adam", offload=False),
        job("adamw", offload=False, optim__name="adamw"),
        *(job(strategy, strategy) for strategy in ("zero1", "zero2", "zero3")),
        job("zero2-adamw", "zero2", optim__name="adamw"),
        *(job(f"stopped-{how}", how, stop_at=at) for how in ("zero2", "zero3") for at in (8, 0)),
    ]
    return together(folder, 2, jobs)


def furthest(one, two):
    """Largest difference of any weight; the biases of keys have no gradient but rounding."""
    assert one.keys() == two.keys()
    return max(float((one[n] - two[n]).abs().max()) for n in one if "key.bias" not in n)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_it_is_torchs_coupled_adam(found, strategy):
    assert found[strategy].outcome == "done"
    assert furthest(found[strategy].weights(), found["adam"].weights()) < 2e-5
    assert furthest(found[strategy].weights(), found["adamw"].weights()) > 1e-3


def test_adamw_is_torchs_too(found):
    assert furthest(found["zero2-adamw"].weights(), found["adamw"].weights()) < 2e-5


@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_a_stopped_run_ends_like_one_that_was_not(found, strategy):
    again, whole = found[f"stopped-{strategy}"], found[strategy]
    assert again.outcome == "done"
    assert all(torch.equal(again.weights()[n], t) for n, t in whole.weights().items())
    assert all(torch.equal(again.moments()[n], t) for n, t in whole.moments().items())


def test_without_a_compiler_it_is_refused_with_a_remedy(tmp_path):
    code = (
        "import torch; from emo.training.config import OptimConfig\n"
        "from emo.training.optim import build_optimizer\n"
        "build_optimizer(torch.nn.Linear(2, 2), OptimConfig(), offload=True)"
    )
    environment = os.environ | {
        "TORCH_EXTENSIONS_DIR": str(tmp_path), "CXX": "/bin/false", "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert "RuntimeMismatch: runtime.offload=true needs DeepSpeed's own Adam" in last
    assert "install a C++ compiler" in last
