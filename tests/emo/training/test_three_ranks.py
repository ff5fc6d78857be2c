"""Stopped and resumed on three processes: bit for bit what was never stopped.

Two addends can be added in either order, three cannot. So this is where the order in which a
strategy adds up the ranks' gradients shows, and two processes prove nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

STRATEGIES = ("cpu", "fsdp", "zero1", "zero2", "zero3")  # zero3 last: it patches torch for good
WORLD = 3


def off_by(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any, tiny: Any, make_settings: Any, together: Any) -> Any:
    folder = tmp_path_factory.mktemp("three")

    def job(name: str, strategy: str, stop_at: int = 0) -> dict[str, Any]:
        # A high rate: a difference in the last bit grows until it is seen.
        config = make_settings(tiny, folder / name, resume="auto", optim__lr=0.02)
        return {"strategy": strategy, "config": config, "stop_at": stop_at}

    return together(
        folder,
        WORLD,
        [
            job(f"{kind}-{strategy}", strategy, stop_at)
            for strategy in STRATEGIES
            for kind, stop_at in (("whole", 0), ("stopped", 3), ("stopped", 0))
        ],
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_run_is_bit_identical(strategy: str, found: Any) -> None:
    whole, again = found[f"whole-{strategy}"], found[f"stopped-{strategy}"]
    assert whole.outcome == again.outcome == "done"
    assert off_by(whole.weights(), again.weights()) == 0
    assert off_by(whole.moments(), again.moments()) == 0
