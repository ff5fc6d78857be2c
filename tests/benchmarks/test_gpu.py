"""What benchmarks/gpu.py computes with, on a CPU: the work by formula, and that its steps run."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emo.models.model import EmotionModel

SMALL = {"hidden": 32, "layers": 3, "heads": 4, "intermediate": 80, "positions": 64}


@pytest.fixture(scope="module")
def gpu():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    import gpu

    sys.path.remove(folder)
    return gpu


@pytest.mark.parametrize(("batch", "length"), [(3, 10), (2, 48)])
def test_the_formula_counts_what_torch_counts(gpu, batch, length):
    config = gpu.experiment(SMALL, batch).model
    model = EmotionModel(config, classes=gpu.CLASSES, sizes={"text": 2000})
    words = {
        "tokens": torch.randint(0, 2000, (batch, length)),
        "token_mask": torch.ones(batch, length, dtype=torch.bool),
    }
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(words).sum().backward()
    assert gpu.flops(SMALL, batch, length) == counter.get_total_flops()


def test_its_steps_run_and_are_timed(gpu):
    seconds, peak = gpu.measure(gpu.experiment(SMALL, 4), length=12, steps=3, warm=1)
    assert 0 < seconds < 60
    assert peak > 100
    assert 1e6 < gpu.matrix_rate(size=64, dtype=torch.float32, repeat=3) < 1e14
