"""What only a GPU shows; skipped where there is none. Tolerances allow for TF32, bf16 and fp16."""

import json

import numpy as np
import pytest
import torch

from emo.__main__ import EXIT_USER_ERROR, explain
from emo.training.config import OptimConfig
from emo.training.optim import build_optimizer, parameter_groups

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together):
    """One process: on the CPU, and on the GPU in every precision and under every strategy."""
    folder = tmp_path_factory.mktemp("gpu")

    def job(name, strategy="gpu", stop_at=0, **runtime):
        config = make_settings(
            tiny, folder / name, dropout=0.0, resume="auto", runtime=runtime, train__epochs=2
        )
        return {
            "strategy": strategy,
            "config": config,
            "stop_at": stop_at,
            "gpu": strategy != "cpu",
        }

    return together(
        folder,
        1,
        [
            job("cpu", "cpu"),
            job("fp32"),
            job("bf16", precision="bf16"),
            job("fp16", precision="fp16"),
            job("fp16-stopped", precision="fp16", stop_at=4),
            job("fp16-stopped", precision="fp16"),
            job("compiled", compile=True),
            job("zero2-fp16", "zero2", precision="fp16"),
            job("offload", "zero2", offload=True),
            job("zero3", "zero3"),
            job("fsdp", "fsdp"),
        ],
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("fp32", 2e-3), ("compiled", 2e-3), ("offload", 2e-3), ("zero3", 2e-3), ("fsdp", 2e-3),
     ("bf16", 0.05), ("fp16", 0.05), ("zero2-fp16", 0.05)],
)  # fmt: skip
def test_losses_are_those_of_the_cpu(found, name, tolerance):
    assert found[name].outcome == "done"
    losses = [list(found[run].losses.values()) for run in (name, "cpu")]
    np.testing.assert_allclose(*losses, rtol=tolerance)


def test_fp16_goes_on_with_its_loss_scale(found):
    whole, again = found["fp16"], found["fp16-stopped"]
    assert whole.state()["loss_scale"] == again.state()["loss_scale"]
    assert whole.state()["loss_scale"]["scale"] > 1
    assert all(torch.equal(tensor, again.weights()[n]) for n, tensor in whole.weights().items())


def test_the_run_says_on_which_card_it_was(found):
    facts = json.loads((found["fp32"].run / "run.json").read_text())
    assert facts["machine"]["device"].startswith("cuda")


def test_fused_adam_is_the_same_adam():
    steps = []
    config = OptimConfig(lr=1e-2, weight_decay=1e-2)
    for build in (lambda model: torch.optim.Adam(parameter_groups(model, config), fused=False),
                  lambda model: build_optimizer(model, config)):  # fmt: skip
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 64).cuda()
        optimizer = build(model)
        for _ in range(10):
            model(torch.randn(16, 64, device="cuda")).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        steps.append(model.weight.detach().cpu())
    torch.testing.assert_close(*steps, rtol=1e-5, atol=1e-6)


def test_a_full_memory_is_explained():
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    code, message = explain(caught.value)
    assert code == EXIT_USER_ERROR
    assert "train.accumulation" in message
