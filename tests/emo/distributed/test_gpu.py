"""What only a GPU shows; skipped where there is none. Tolerances allow for TF32, bf16 and fp16."""

import json

import numpy as np
import pytest
import torch

from emo.commands.training.train import EXIT_USER_ERROR, explain

GLOBAL_BATCH = 24

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together):
    """On the CPU, and on all GPUs in every precision and under every strategy.

    The CPU's run has processes of its own: a process keeps the backend that it began with, and on
    GPUs that must be NCCL.
    """
    folder = tmp_path_factory.mktemp("gpu")
    world = max(n for n in range(1, torch.cuda.device_count() + 1) if GLOBAL_BATCH % n == 0)

    def job(name, strategy="gpu", stop_at=0, **runtime):
        changes = {"train__epochs": 2, "train__global_batch": GLOBAL_BATCH}
        runtime = {"tf32": False} | runtime  # as exact as the CPU
        config = make_settings(
            tiny, folder / name, dropout=0.0, resume="auto", runtime=runtime, **changes
        )
        on_gpu = strategy != "cpu"
        return {"strategy": strategy, "config": config, "stop_at": stop_at, "gpu": on_gpu}

    on_gpu = [
        job("fp32"),
        job("bf16", precision="bf16"),
        job("fp16", precision="fp16"),
        job("compiled", compile=True),
        job("fsdp", "fsdp"),
        job("zero2-fp16", "zero2", precision="fp16"),
        job("offload", "zero2", offload=True),
    ]
    results = together(folder, 1, [job("cpu", "cpu")]) | together(folder, world, on_gpu)
    # In processes of their own, because an error that is no UserError ends a whole group: ZeRO-3,
    # which changes torch for good, and what resumes.
    results |= together(folder, world, [job("zero3", "zero3")])
    halves = [job("fp16-stopped", precision="fp16", stop_at=at) for at in (4, 0)]
    return results | together(folder, world, halves)


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


def test_a_full_memory_is_explained():
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    code, message = explain(caught.value)
    assert code == EXIT_USER_ERROR
    assert "train.accumulation" in message
