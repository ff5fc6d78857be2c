"""The moving average of the weights, and augmentation, under every strategy and over a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emo.runs import checkpoint, files

STRATEGIES = ("cpu", "zero1", "fsdp", "zero3")  # ZeRO-3 last: it changes its process for good
DECAY = 0.9
AUGMENT = {"spec": {"time_width": 9}, "speed": {}, "mixup": {"where": "hidden"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny: Path, make_settings: Any, together: Any):
    """Two processes each; every step is saved. `stopped` gets a SIGTERM and goes on."""
    folder = tmp_path_factory.mktemp("averages")

    def job(name: str, strategy: str, stop_at: int = 0, **changes: Any) -> dict[str, Any]:
        every = {"train__checkpoint_steps": 1, "train__keep": 99, "resume": "auto", "dropout": 0.0}
        config = make_settings(tiny, folder / name, **every | {"train__average": DECAY} | changes)
        config["data"]["augment"] = AUGMENT
        return {"strategy": strategy, "config": config, "stop_at": stop_at}

    jobs = [job("plain", "cpu", train__average=None)]
    jobs += [job("stopped", "zero1", 3), job("stopped", "zero1")]
    jobs += [job(strategy, strategy) for strategy in STRATEGIES]
    found = together(folder, 2, jobs)
    assert {one.outcome for one in found.values()} == {"done"}
    return folder


def saved(run: Path) -> list[Path]:
    return sorted(files.checkpoints(run).glob("step-*"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_is_the_moving_average_of_the_weights_of_every_step(runs, strategy):
    average: dict[str, torch.Tensor] = {}
    folders = saved(runs / strategy)
    assert len(folders) > 5
    for step, folder in enumerate(folders, 1):
        weights = load_file(folder / checkpoint.WEIGHTS)
        decay = min(DECAY, (1 + step) / (10 + step)) if average else 0.0
        for name, weight in weights.items():
            before = average.get(name, weight.double())
            average[name] = decay * before + (1 - decay) * weight.double()
        written = load_file(folder / checkpoint.AVERAGE)
        assert written.keys() == weights.keys()
        for name, one in average.items():
            torch.testing.assert_close(written[name].double(), one, rtol=1e-5, atol=1e-6)
    assert any(not written[name].equal(weights[name]) for name in weights)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_it_is_the_same_under_every_strategy(runs, strategy):
    one, other = (
        load_file(saved(runs / name)[-1] / checkpoint.AVERAGE) for name in ("cpu", strategy)
    )
    # Adam turns a rounding error of a gradient near 0 into a step of full size: single weights may
    # differ, all of them together hardly do.
    off = sum(float((other[name] - average).norm()) for name, average in one.items())
    assert off < 0.01 * sum(float(average.norm()) for average in one.values())


def test_a_stop_changes_no_bit_of_it(runs):
    whole, again = saved(runs / "zero1"), saved(runs / "stopped")
    assert [path.name for path in whole] == [path.name for path in again]
    for file in (checkpoint.WEIGHTS, checkpoint.MOMENTS, checkpoint.AVERAGE):
        one, two = load_file(whole[-1] / file), load_file(again[-1] / file)
        assert one.keys() == two.keys()
        assert all(two[name].equal(one[name]) for name in one), file


def test_validating_by_it_does_not_touch_the_weights_in_training(runs):
    plain, averaged = saved(runs / "plain"), saved(runs / "cpu")
    assert not (plain[-1] / checkpoint.AVERAGE).exists()
    one, two = (load_file(folders[-1] / checkpoint.WEIGHTS) for folders in (plain, averaged))
    assert all(two[name].equal(one[name]) for name in one)
    best = checkpoint.best(files.checkpoints(runs / "cpu"))
    chosen = checkpoint.read_weights(best)
    written = load_file(best / checkpoint.AVERAGE)
    assert all(chosen[name].equal(written[name]) for name in written)
