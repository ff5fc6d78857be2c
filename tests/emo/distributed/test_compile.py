"""torch.compile changes how fast a model is, not what it learns."""

import signal

import pytest
import torch
from safetensors.torch import load_file

from emo.config import ExperimentConfig
from emo.training.train import train
from shards.configfile import parse


@pytest.mark.torture  # a C++ compiler works for minutes
def test_a_compiled_model_learns_the_same(tiny, make_settings, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    text = make_settings(tiny, tmp_path, dropout=0.0)["model"]["text"]
    for name, compiled in (("plain", False), ("compiled", True)):
        settings = make_settings(
            tiny, tmp_path / name, model={"text": text}, runtime={"compile": compiled}
        )
        assert train(parse(ExperimentConfig, settings, "the test")) == "done"
    signal.signal(signal.SIGTERM, before)
    folder = max((tmp_path / "plain/checkpoints").glob("step-????????")).name
    plain, compiled = (
        load_file(tmp_path / name / "checkpoints" / folder / "weights.safetensors")
        for name in ("plain", "compiled")
    )
    assert plain.keys() == compiled.keys()  # no "_orig_mod." in a name
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it was compiled
    for name, tensor in plain.items():
        if "key.bias" not in name:  # its gradient is rounding alone
            torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=2e-5)
