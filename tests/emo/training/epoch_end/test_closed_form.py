"""Heads that are fitted in closed form, in real runs under every kind of strategy."""

import numpy as np
import pytest
import torch

from emo.evaluation.predictions import read_predictions
from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import load, parse
from shards.store.index import CONFIG

MODELS = {
    "dnn": {"audio": {"kind": "dnn_elm", "hidden": 8, "layers": 1, "loudest": 0.5}},
    "bilstm": {"audio": {"kind": "bilstm_null", "hidden": 4, "layers": 1, "stride": 4}},
}
CLASSES = ["anger", "happiness", "neutral", "sadness"]


@pytest.fixture(scope="module")
def descriptors(tiny, tmp_path_factory):
    """The tiny corpus as low-level descriptors, clean rows alone."""
    folder = tmp_path_factory.mktemp("descriptors") / "shards"
    raw = load(ShardConfig, tiny / CONFIG).model_dump(mode="json")
    raw |= {
        "features": {"kinds": ["lld"], "n_fft": 256, "lowlevel": {"pitch": "yin"}},
        "augment": {"variants": []},
        "output": raw["output"] | {"folder": str(folder)},
    }
    build(parse(ShardConfig, raw, "the test"), workers=1)
    return folder


@pytest.fixture(scope="module")
def runs(descriptors, tmp_path_factory, make_settings, together):
    """Every kind by one process, by two, and where parameters are sharded; two epochs each."""
    folder = tmp_path_factory.mktemp("runs")

    def jobs(world, *strategies):
        return [
            {"strategy": strategy, "config": make_settings(
                descriptors, folder / f"{kind}-{strategy}-{world}", model=model, data__audio="lld",
                runtime={"precision": "fp64"} if strategy == "cpu" else {},
            )}
            for strategy in strategies
            for kind, model in MODELS.items()
        ]  # fmt: skip

    return together(folder, 2, jobs(2, "cpu", "fsdp", "zero3")) | together(
        folder, 1, jobs(1, "cpu")
    )


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("one", "other", "tolerance"),
    [("cpu-1", "cpu-2", 1e-9), ("fsdp-2", "zero3-2", 1e-4)],  # in float64, in float32
)
def test_the_fit_is_the_same_whatever_the_strategy(runs, kind, one, other, tolerance):
    one, other = runs[f"{kind}-{one}"], runs[f"{kind}-{other}"]
    assert (one.outcome, other.outcome) == ("done", "done")
    weights = one.weights()
    for name, value in other.weights().items():
        torch.testing.assert_close(value, weights[name], rtol=tolerance, atol=tolerance)
    first, second = (
        read_predictions(run.run, "test", CLASSES).probabilities for run in (one, other)
    )
    np.testing.assert_allclose(second, first, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", MODELS)
def test_every_epoch_is_validated_with_a_head_of_its_own(runs, kind):
    """Before a fit all classes are alike; each epoch's checkpoint holds the fit of that epoch."""
    run = runs[f"{kind}-cpu-1"]
    losses = [line["loss"] for line in run.log if line["group"] == "val"]
    assert len(losses) == 2
    assert all(abs(loss - np.log(4)) > 0.01 for loss in losses)
    earlier = sorted((run.run / "checkpoints").glob("step-????????"))[0].name
    before, after = run.weights_of(earlier), run.weights()
    for name in ("mean", "scale", "output"):
        assert not torch.equal(before[f"audio.head.{name}"], after[f"audio.head.{name}"])
    assert torch.equal(before["audio.head.weight"], after["audio.head.weight"])  # never trained
