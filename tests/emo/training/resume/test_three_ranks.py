"""Stopped and resumed on three processes: bit for bit what was never stopped.

Two addends can be added in either order, three cannot. So this is where the order in which a
strategy adds up the ranks' gradients shows, and two processes prove nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

STRATEGIES = ("cpu", "fsdp", "zero1", "zero2", "zero3")
WORLD = 3


def off_by(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def test_a_resumed_run_is_bit_identical(
    tmp_path: Path, tiny: Path, make_settings: Any, together: Any
) -> None:
    """Under DDP, which needs `warm_up` for it; the others are in the long test below."""

    def job(name: str, stop_at: int = 0) -> dict[str, Any]:
        # A high rate: a difference in the last bit grows until it is seen.
        config = make_settings(tiny, tmp_path / name, resume="auto", optim__lr=0.02)
        return {"strategy": "cpu", "config": config, "stop_at": stop_at}

    found = together(tmp_path, WORLD, [job("whole"), job("stopped", 3), job("stopped")])
    whole, again = found["whole"], found["stopped"]
    assert whole.outcome == again.outcome == "done"
    assert off_by(whole.weights(), again.weights()) == 0
    assert off_by(whole.moments(), again.moments()) == 0


@pytest.mark.torture
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_and_through_the_launcher_under_every_strategy(
    strategy: str, lab: Any, tiny: Path, tmp_path: Path
) -> None:
    def settings(name: str) -> dict[str, Any]:
        changes = {"train__epochs": 8, "optim__lr": 0.02, "resume": "auto"}
        return lab.settings(tiny, tmp_path / name, **changes)

    assert lab.train(strategy, settings("whole"), processes=WORLD).process.returncode == 0
    stopped = lab.start(strategy, settings("parts"), processes=WORLD)
    stopped.wait_for("epoch 1/8")
    stopped.process.terminate()
    assert stopped.wait() == 75, stopped.output
    again = lab.train(strategy, settings("parts"), processes=WORLD)
    assert again.process.returncode == 0, again.output
    assert "resuming from" in again.output
    for file in ("weights", "moments"):
        one, two = (
            load_file(max(folder.glob("step-????????")) / f"{file}.safetensors")
            for folder in (tmp_path / "whole" / "checkpoints", tmp_path / "parts" / "checkpoints")
        )
        assert off_by(one, two) == 0
